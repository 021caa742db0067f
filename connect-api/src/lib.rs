//! All that a connector author sees: source and sink traits, data model, config tables, converters, transforms.

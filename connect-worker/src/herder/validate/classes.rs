//! Classes that settings name: they have to be there, and to be what the setting wants.

use aqueduct_connect_api::Plugin;
use aqueduct_connect_api::config::{ConfigType, ConfigValueInfo};

/// Converters have to be there.
pub fn mark_converters(infos: &mut [ConfigValueInfo]) {
    let mut missing = Vec::new();
    for info in infos.iter_mut().filter(|info| info.key.kind == ConfigType::Class) {
        let Some(class) = info.value.clone() else { continue };
        let kinds: &[&str] = match &*info.key.name {
            "header.converter" => &["header_converter", "converter"],
            _ => &["converter"],
        };
        let Some(wrong) = judge(&info.key.name, class.trim(), kinds) else { continue };
        if wrong.is_missing {
            info.value = None;
            missing.push(format!("{}.plugin.version", info.key.name));
        }
        info.errors.push(wrong.text);
    }
    // There is no version to choose of what is not there.
    for info in infos.iter_mut().filter(|info| missing.iter().any(|name| *name == info.key.name)) {
        info.visible = false;
    }
}

/// Why a class cannot stand where it is named.
pub struct WrongClass {
    pub text: String,
    /// No plugin has this name.
    pub is_missing: bool,
}

/// Judges a class at a setting where something of the first kind belongs, or of another that will do.
pub fn judge(key: &str, class: &str, kinds: &[&str]) -> Option<WrongClass> {
    if let Some(plugin) = Plugin::by_class(class) {
        let interface = match kinds.first() {
            Some(&"transformation") => "Transformation",
            Some(&"predicate") => "Predicate",
            Some(&"header_converter") => "HeaderConverter",
            _ => "Converter",
        };
        let text = format!("Class class {class} does not implement the {interface} interface");
        let fits = kinds.contains(&plugin.factory.type_name());
        return (!fits).then_some(WrongClass { text, is_missing: false });
    }
    // Many transforms are a pair, one for keys and one for values.
    let mut nested: Vec<&str> = Plugin::all()
        .flat_map(|plugin| std::iter::once(plugin.class).chain(plugin.aliases.iter().copied()))
        .filter(|known| known.strip_prefix(class).is_some_and(|rest| rest.starts_with('$')))
        .collect();
    nested.sort_unstable();
    let is_missing = nested.is_empty();
    let text = match is_missing {
        true => format!("Invalid value {class} for configuration {key}: Class {class} could not be found."),
        false => format!("This class is abstract and cannot be created. Did you mean {}?", nested.join(", ")),
    };
    Some(WrongClass { text, is_missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_told_what_is_wrong_with_it() {
        let package = "org.apache.kafka.connect";
        let judge = |class: &str, kinds: &[&str]| {
            judge("k", &format!("{package}.{class}"), kinds).map(|wrong| wrong.text.replace(package, "*"))
        };
        for (class, kinds, text) in [
            ("json.JsonConverter", &["converter"][..], None),
            ("json.JsonConverter", &["header_converter", "converter"], None),
            ("transforms.Filter", &["transformation"], None),
            (
                "transforms.Filter",
                &["converter"],
                Some("Class class *.transforms.Filter does not implement the Converter interface"),
            ),
            (
                "storage.SimpleHeaderConverter",
                &["converter"],
                Some(
                    "Class class *.storage.SimpleHeaderConverter does not implement the Converter interface",
                ),
            ),
            (
                "json.JsonConverter",
                &["transformation"],
                Some("Class class *.json.JsonConverter does not implement the Transformation interface"),
            ),
            (
                "transforms.Cast",
                &["transformation"],
                Some(
                    "This class is abstract and cannot be created. Did you mean *.transforms.Cast$Key, *.transforms.Cast$Value?",
                ),
            ),
            (
                "Nope",
                &["predicate"],
                Some("Invalid value *.Nope for configuration k: Class *.Nope could not be found."),
            ),
        ] {
            assert_eq!(judge(class, kinds).as_deref(), text, "{class}");
        }
    }
}

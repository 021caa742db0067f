//! Groups of the consumer protocol (KIP-848): the coordinator assigns, and each member is led to its part of the target
//! assignment step by step: it gives up first, and gets a partition only when nobody else holds it.
//!
//! A group's durable state is [`state::State`]. It changes by [`entry::Entry`]s alone, each of which sets one key, so
//! that a reload gives the same state, and so that what could not be written can be taken back. Decisions write entries
//! through a [`draft::Draft`]; the requests are in [`super::groups`], one file each.

pub(super) mod assignor;
pub(super) mod draft;
pub(crate) mod embedded;
pub(super) mod entry;
pub(super) mod entry_codec;
pub(super) mod group;
pub(super) mod hash;
pub(super) mod options;
pub(super) mod partitions;
pub(super) mod pattern;
pub(super) mod reconcile;
pub(super) mod request;
pub(super) mod state;

//! The registry of plugins: those that are compiled in, and those that were found when the process started.

use std::sync::{LazyLock, PoisonError, RwLock};

use tokio::sync::watch;

use crate::config::ConfigDef;
use crate::connector::{Connector, SinkTask, SourceTask};
use crate::convert::{Converter, HeaderConverter, Predicate, Transformation};

/// Makes something of a connector's; `&|| Box::new(..)` is one.
pub type Make<T> = &'static (dyn Fn() -> T + Send + Sync);

/// How to make an instance.
#[derive(Clone, Copy)]
pub enum Factory {
    Source { connector: Make<Box<dyn Connector>>, task: Make<Box<dyn SourceTask>> },
    Sink { connector: Make<Box<dyn Connector>>, task: Make<Box<dyn SinkTask>> },
    Converter(fn() -> Box<dyn Converter>),
    HeaderConverter(fn() -> Box<dyn HeaderConverter>),
    Transformation(fn() -> Box<dyn Transformation>),
    Predicate(fn() -> Box<dyn Predicate>),
}

impl Factory {
    /// The `type` that the REST API shows.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Source { .. } => "source",
            Self::Sink { .. } => "sink",
            Self::Converter(_) => "converter",
            Self::HeaderConverter(_) => "header_converter",
            Self::Transformation(_) => "transformation",
            Self::Predicate(_) => "predicate",
        }
    }
}

/// A plugin as it presents itself.
///
/// ```text
/// inventory::submit! {
///     Plugin { class: "org.example.ThingSourceConnector", aliases: &[], version: env!("CARGO_PKG_VERSION"), config: &config_def,
///              factory: Factory::Source { connector: &|| Box::new(..), task: &|| Box::new(..) } }
/// }
/// ```
pub struct Plugin {
    /// Full class name that users put in configurations and that the REST API lists.
    pub class: &'static str,
    /// Other full class names that mean the same.
    pub aliases: &'static [&'static str],
    pub version: &'static str,
    /// The table of its settings, the worker's own not included.
    pub config: Make<ConfigDef>,
    pub factory: Factory,
}

inventory::collect!(Plugin);

/// Plugins that are not compiled in.
static FOUND: RwLock<Vec<&'static Plugin>> = RwLock::new(Vec::new());

/// How many searches for plugins go on.
static SEARCHES: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::channel(0).0);

/// A search for plugins that has not come to its end; it does when this is dropped.
#[derive(Debug)]
pub struct Search(());

impl Drop for Search {
    fn drop(&mut self) {
        SEARCHES.send_modify(|count| *count -= 1);
    }
}

/// A class that two plugins claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("class {0} is compiled in already")]
pub struct ClassTaken(pub String);

impl Plugin {
    /// Every plugin that is linked in or was registered, in no particular order.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let found = FOUND.read().unwrap_or_else(PoisonError::into_inner).clone();
        inventory::iter::<Self>.into_iter().chain(found)
    }

    /// Says that somebody looks for plugins now. A worker starts meanwhile; who misses a class waits for the end.
    #[must_use]
    pub fn search() -> Search {
        SEARCHES.send_modify(|count| *count += 1);
        Search(())
    }

    /// Returns when nobody looks for plugins any more.
    pub async fn searched() {
        // The sender is never dropped.
        let _ = SEARCHES.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Adds a plugin that was found while the process runs; it stays for as long as the process does. One that was
    /// registered before under the same class gives way, and goes on for those who have it in hand.
    ///
    /// # Errors
    /// Where the class or an alias is one of a plugin that is compiled in.
    pub fn register(plugin: Self) -> Result<&'static Self, ClassTaken> {
        let names = |p: &Self| -> Vec<&'static str> {
            std::iter::once(p.class).chain(p.aliases.iter().copied()).collect()
        };
        let own = names(&plugin);
        let taken = inventory::iter::<Self>.into_iter().flat_map(names).find(|name| own.contains(name));
        if let Some(class) = taken {
            return Err(ClassTaken(class.to_owned()));
        }
        let plugin: &'static Self = Box::leak(Box::new(plugin));
        let mut found = FOUND.write().unwrap_or_else(PoisonError::into_inner);
        found.retain(|known| known.class != plugin.class);
        found.push(plugin);
        Ok(plugin)
    }

    /// Whether `name` means this plugin: a full class name, or for connectors also its last part with or without
    /// `Connector`.
    pub fn is_named(&self, name: &str) -> bool {
        let is_connector = matches!(self.factory, Factory::Source { .. } | Factory::Sink { .. });
        std::iter::once(&self.class).chain(self.aliases).any(|class| {
            let simple = class.rsplit('.').next().unwrap_or(class);
            *class == name
                || (is_connector
                    && (simple == name || simple.strip_suffix("Connector").is_some_and(|s| s == name)))
        })
    }

    /// The connector that `name` means.
    pub fn connector(name: &str) -> Option<&'static Self> {
        Self::all()
            .filter(|p| matches!(p.factory, Factory::Source { .. } | Factory::Sink { .. }))
            .find(|p| p.is_named(name))
    }

    /// The plugin of any kind whose full class name is `class`.
    pub fn by_class(class: &str) -> Option<&'static Self> {
        Self::all().find(|p| p.class == class || p.aliases.contains(&class))
    }
}

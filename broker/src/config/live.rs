//! The settings in force: those of the file, with what is set at run time over them.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{ConfigError, Settings};
use crate::metadata::{MetadataImage, Resource};

/// A component that can refuse settings before they are taken, such as a listener whose key store cannot be read.
pub trait Reconfigurable: Send + Sync {
    /// Checks settings that are about to be set; nothing is to be changed yet.
    ///
    /// # Errors
    /// Why they cannot be; the client that asked for them is told.
    fn validate(&self, next: &Settings) -> Result<(), ConfigError>;
}

/// Holds the settings in force and tells who asked of new ones.
///
/// The order of precedence is Kafka's: set for this broker, set for all brokers, the file, the default.
pub struct LiveSettings {
    file: Arc<Settings>,
    now: ArcSwap<Settings>,
    changes: watch::Sender<Arc<Settings>>,
    checks: RwLock<Vec<Arc<dyn Reconfigurable>>>,
}

impl LiveSettings {
    /// The settings of the file, with nothing set at run time.
    pub fn new(file: Arc<Settings>) -> Self {
        Self {
            now: ArcSwap::new(file.clone()),
            changes: watch::Sender::new(file.clone()),
            checks: RwLock::default(),
            file,
        }
    }

    /// The settings of this moment. Cheap; take them once for each piece of work.
    pub fn current(&self) -> Arc<Settings> {
        self.now.load_full()
    }

    /// Tells of every change; a slow watcher sees the newest only.
    pub fn watch(&self) -> watch::Receiver<Arc<Settings>> {
        self.changes.subscribe()
    }

    /// Has settings checked by `component` before they are accepted.
    pub fn register(&self, component: Arc<dyn Reconfigurable>) {
        self.checks.write().push(component);
    }

    /// The settings that `image` would give this broker.
    ///
    /// # Errors
    /// Where they contradict each other or a component cannot work with them.
    pub fn check(&self, image: &MetadataImage) -> Result<Settings, ConfigError> {
        let next = self.overlay(image)?;
        self.checks.read().iter().try_for_each(|component| component.validate(&next))?;
        Ok(next)
    }

    /// Takes over what `image` says. What cannot be used is logged and the settings stay as they are.
    pub fn refresh(&self, image: &MetadataImage) {
        let next = match self.overlay(image) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "settings changed at run time cannot be used; those before stay in force");
                return;
            }
        };
        if next.in_force == self.now.load().in_force {
            return;
        }
        let next = Arc::new(next);
        self.now.store(next.clone());
        self.changes.send_replace(next);
        tracing::info!("settings of this broker changed at run time");
    }

    fn overlay(&self, image: &MetadataImage) -> Result<Settings, ConfigError> {
        let of_all = image.config(&Resource::Broker(None));
        let of_this = image.config(&Resource::Broker(Some(self.file.node_id)));
        let set = of_all.into_iter().chain(of_this).flat_map(|values| values.iter());
        self.file.overlaid(set.map(|(key, value)| (&**key, &**value)))
    }
}

impl fmt::Debug for LiveSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSettings").field("now", &self.now).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aqueduct_protocol::ids::BrokerId;

    use super::*;
    use crate::config::Properties;
    use crate::metadata::Record;

    fn set(image: &mut MetadataImage, broker: Option<i32>, key: &str, value: &str) {
        let values = BTreeMap::from([(key.into(), value.into())]);
        image.apply(&Record::Config { resource: Resource::Broker(broker.map(BrokerId)), values });
    }

    #[test]
    fn one_broker_counts_before_all_before_the_file() {
        let mut file = Properties::default();
        file.set("node.id", "1").set("max.connections", "7");
        let live = LiveSettings::new(Arc::new(Settings::read(file).unwrap()));
        let watch = live.watch();
        let mut image = MetadataImage::default();
        let now = |image: &MetadataImage| {
            live.refresh(image);
            live.current().max_connections
        };
        assert_eq!(now(&image), 7);
        assert!(!watch.has_changed().unwrap());
        set(&mut image, None, "max.connections", "8");
        assert_eq!(now(&image), 8);
        set(&mut image, Some(2), "max.connections", "9");
        assert_eq!(now(&image), 8);
        set(&mut image, Some(1), "max.connections", "10");
        assert_eq!(now(&image), 10);
        assert!(watch.has_changed().unwrap());
        assert_eq!(live.current().properties.get("max.connections"), Some("7"));
        set(&mut image, Some(1), "max.connections", "no number");
        assert!(live.check(&image).is_err());
        assert_eq!(now(&image), 10);
    }

    #[test]
    fn a_component_can_refuse() {
        struct Never;
        impl Reconfigurable for Never {
            fn validate(&self, _: &Settings) -> Result<(), ConfigError> {
                Err(ConfigError::Conflict("no".into()))
            }
        }
        let mut file = Properties::default();
        file.set("node.id", "1");
        let live = LiveSettings::new(Arc::new(Settings::read(file).unwrap()));
        assert!(live.check(&MetadataImage::default()).is_ok());
        live.register(Arc::new(Never));
        assert!(live.check(&MetadataImage::default()).is_err());
    }
}

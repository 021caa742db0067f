//! What lies on the plugin path.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// File names of plugins start like this. Nothing else on the path is ever run: folders of JVM connectors hold scripts of
/// all kinds.
pub const PREFIX: &str = "aqueduct-plugin-";

const MAX_PROGRAMS: usize = 200;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub programs: Vec<PathBuf>,
    /// Connectors for the JVM.
    pub jars: Vec<PathBuf>,
    /// What a user should hear about.
    pub problems: Vec<String>,
}

/// Looks into `directories` and the folders in them, as Kafka does.
pub fn scan(directories: &[PathBuf]) -> Scan {
    let mut found = Scan::default();
    for directory in directories {
        found.folder(directory, true);
    }
    found.programs.sort();
    found.programs.dedup();
    found.jars.sort();
    if found.programs.len() > MAX_PROGRAMS {
        found
            .problems
            .push(format!("plugin.path holds more than {MAX_PROGRAMS} plugins; the others are ignored"));
        found.programs.truncate(MAX_PROGRAMS);
    }
    found
}

impl Scan {
    fn folder(&mut self, folder: &Path, inside: bool) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                return self
                    .problems
                    .push(format!("plugin.path: {} cannot be read: {error}", folder.display()));
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            // Links are followed.
            let Ok(about) = fs::metadata(&path) else { continue };
            if about.is_dir() {
                if inside && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                    self.folder(&path, false);
                }
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".jar") {
                self.jars.push(path);
            } else if name.starts_with(PREFIX) {
                if about.permissions().mode() & 0o111 == 0 {
                    let path = path.display();
                    self.problems
                        .push(format!("{path} is not executable; run chmod +x {path} to have it served"));
                } else {
                    self.programs.push(path);
                }
            }
        }
    }

    /// A line about jars, where there are any.
    pub fn about_jars(&self) -> Option<String> {
        const SHOWN: usize = 5;
        if self.jars.is_empty() {
            return None;
        }
        let names = self.jars.iter().take(SHOWN).map(|jar| jar.display().to_string());
        let names: Vec<String> = names.collect();
        let more = match self.jars.len().saturating_sub(SHOWN) {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!(
            "plugin.path holds jars of the JVM, which this worker does not run: {}{more}. GET /connector-plugins lists what it \
             runs; many class names of JVM connectors are among them. Keep other connectors on a JVM worker, or write them as \
             plugins (docs/plugins.md)",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_by_name_and_jars_are_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            fs::write(&path, "").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            path
        };
        let first = file("aqueduct-plugin-a", 0o755);
        let second = file("things/aqueduct-plugin-b.py", 0o755);
        let dull = file("aqueduct-plugin-c", 0o644);
        file("things/stop-all.sh", 0o755);
        file("things/deep/aqueduct-plugin-d", 0o755);
        file(".hidden/aqueduct-plugin-e", 0o755);
        file("jdbc/kafka-connect-jdbc.jar", 0o644);
        let found = scan(&[dir.path().to_owned(), dir.path().join("missing")]);
        assert_eq!(found.programs, [first, second]);
        assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
        let said = found.problems.join("\n");
        assert!(
            said.contains(&format!("chmod +x {}", dull.display())) && said.contains("missing cannot be read")
        );
        assert!(found.about_jars().expect("one").contains("kafka-connect-jdbc.jar"));
        assert_eq!(Scan::default().about_jars(), None);
    }
}

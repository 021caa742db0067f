//! What is formatted and what is refused.

use aqueduct_protocol::ids::BrokerId;

use super::*;

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
const OTHER: &str = "hOiM4hI347VI62C4IBlmcA";

fn properties(dir: &Path, pairs: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::default();
    properties
        .set("node.id", "1")
        .set("process.roles", "broker,controller")
        .set("listeners", "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093")
        .set("controller.listener.names", "CONTROLLER")
        .set("controller.quorum.bootstrap.servers", "127.0.0.1:9093")
        .set("log.dirs", &format!("{0}/a,{0}/b", dir.display()));
    for (key, value) in pairs {
        properties.set(key, value);
    }
    properties
}

fn wanted(first: FirstControllers) -> Format {
    Format {
        cluster_id: CLUSTER.into(),
        first,
        ignore_formatted: false,
        features: Vec::new(),
        credentials: Vec::new(),
    }
}

fn initial(text: &str) -> Format {
    wanted(FirstControllers::Initial(initial_controllers(text).unwrap()))
}

#[test]
fn a_first_controller_and_its_data_are_formatted_once() {
    let dir = tempfile::tempdir().unwrap();
    let properties = properties(dir.path(), &[]);
    let lines = format(properties.clone(), &wanted(FirstControllers::Standalone)).unwrap();
    assert!(lines[0].starts_with("Formatting data directory"), "{lines:?}");
    assert!(lines[1].starts_with("Formatting dynamic metadata voter directory"), "{lines:?}");
    let meta = |name: &str| MetaProperties::read(&dir.path().join(name)).unwrap().unwrap();
    assert_eq!((meta("a").node_id, meta("b").cluster_id.as_str()), (BrokerId(1), CLUSTER));
    assert_ne!(meta("a").directory_id, meta("b").directory_id);
    assert!(aqueduct_quorum::is_of_quorum(&dir.path().join("a")));
    assert!(!aqueduct_quorum::is_of_quorum(&dir.path().join("b")));

    let again = format(properties.clone(), &wanted(FirstControllers::Standalone)).unwrap_err().to_string();
    assert!(again.contains("is already formatted. Use --ignore-formatted"), "{again}");
    let ignoring = Format { ignore_formatted: true, ..wanted(FirstControllers::Standalone) };
    let lines = format(properties.clone(), &ignoring).unwrap();
    assert_eq!(lines, ["All of the log directories are already formatted."]);
    std::fs::remove_dir_all(dir.path().join("b")).unwrap();
    assert_eq!(format(properties.clone(), &ignoring).unwrap().len(), 1);
    let other = Format { cluster_id: OTHER.into(), ..ignoring };
    let error = format(properties.clone(), &other).unwrap_err().to_string();
    assert!(error.contains(&format!("Expected {OTHER}, but read {CLUSTER}")), "{error}");
    let mut properties = properties;
    properties.set("node.id", "2");
    let error = format(properties, &wanted(FirstControllers::Standalone)).unwrap_err().to_string();
    assert!(error.contains("node.id") && error.contains("Expected 2, but read 1"), "{error}");
}

#[test]
fn controllers_that_begin_together_have_the_ids_that_were_given() {
    let dir = tempfile::tempdir().unwrap();
    let all = format!("1@127.0.0.1:9093:{CLUSTER},2@[::1]:9093:{OTHER}");
    let lines = format(properties(dir.path(), &[]), &initial(&all)).unwrap();
    assert!(lines[1].contains("dynamic metadata voter directory"), "{lines:?}");
    let meta = MetaProperties::read(&dir.path().join("a")).unwrap().unwrap();
    assert_eq!(Some(meta.directory_id), Uuid::parse(CLUSTER));

    // A broker takes the same command, and votes on nothing.
    let dir = tempfile::tempdir().unwrap();
    let broker = [("node.id", "7"), ("process.roles", "broker"), ("listeners", "PLAINTEXT://127.0.0.1:9092")];
    let lines = format(properties(dir.path(), &broker), &initial(&all)).unwrap();
    assert!(lines[1].contains("dynamic metadata directory"), "{lines:?}");
    assert!(!aqueduct_quorum::is_of_quorum(&dir.path().join("a")));
}

#[test]
fn wrong_use_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let broker = [("process.roles", "broker"), ("listeners", "PLAINTEXT://127.0.0.1:9092")];
    let voters = [
        ("controller.quorum.voters", "1@127.0.0.1:9093,2@127.0.0.1:9094"),
        ("controller.quorum.bootstrap.servers", ""),
    ];
    let others = format!("2@127.0.0.1:9093:{OTHER}");
    for (pairs, format_as, part) in [
        (&[][..], wanted(FirstControllers::Unsaid), "you must specify one of the following: --standalone"),
        (&[], initial(&others), "add it, or use --no-initial-controllers"),
        (&[], wanted(FirstControllers::Join), "nobody to join"),
        (&[], Format { cluster_id: "a b".into(), ..wanted(FirstControllers::Standalone) }, "random-uuid"),
        (
            &[("listeners", "CONTROLLER://:0,PLAINTEXT://:9092")],
            wanted(FirstControllers::Standalone),
            "port 0",
        ),
        (
            &[("controller.quorum.bootstrap.servers", "")],
            wanted(FirstControllers::Standalone),
            "bootstrap.servers",
        ),
        (&broker, wanted(FirstControllers::Standalone), "only use --standalone on a controller"),
        (&voters, wanted(FirstControllers::Standalone), "please remove controller.quorum.voters"),
        (&voters, initial(&others), "please remove controller.quorum.voters"),
    ] {
        let error = format(properties(dir.path(), pairs), &format_as).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was written");
    assert_eq!(format(properties(dir.path(), &voters), &wanted(FirstControllers::Unsaid)).unwrap().len(), 2);
}

//! Stores as `keytool` and `openssl` make them here, read back.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn run(dir: &Path, program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).current_dir(dir).output().expect("the program runs");
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn certificate(dir: &Path) -> PathBuf {
    run(
        dir,
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "2",
            "-subj",
            "/C=DE/O=Example, Inc/CN=broker",
        ],
    );
    dir.join("cert.pem")
}

fn has_one_key(contents: &Contents) {
    assert_eq!((contents.keys.len(), contents.keys[0].chain.len()), (1, 1));
    let name = crate::dn::subject(&contents.keys[0].chain[0]).unwrap();
    assert_eq!(name, "CN=broker,O=Example\\, Inc,C=DE");
    rustls::crypto::ring::sign::any_supported_type(&contents.keys[0].key).expect("a key that can sign");
}

#[test]
fn stores_of_openssl_are_read_whatever_encrypts_them() {
    let dir = tempfile::tempdir().unwrap();
    let cert = std::fs::read(certificate(dir.path())).unwrap();
    assert_eq!(read(&cert, StoreType::Pem, None, None).unwrap().certificates.len(), 1);
    for (name, options) in [
        ("new", &[][..]),
        ("old", &["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"]),
        ("aes128", &["-keypbe", "AES-128-CBC", "-certpbe", "NONE", "-macalg", "sha512"]),
    ] {
        let mut arguments = vec![
            "pkcs12",
            "-export",
            "-inkey",
            "key.pem",
            "-in",
            "cert.pem",
            "-passout",
            "pass:secret",
            "-out",
            name,
        ];
        arguments.extend(options);
        run(dir.path(), "openssl", &arguments);
        let store = |password| load(&dir.path().join(name), StoreType::Jks, Some(password), None);
        has_one_key(&store("secret").unwrap());
        let error = store("wrong").unwrap_err();
        assert!(error.contains("password") && !error.contains("secret"), "{error}");
    }
    let plain = std::fs::read_to_string(dir.path().join("key.pem")).unwrap();
    run(
        dir.path(),
        "openssl",
        &["pkcs8", "-topk8", "-in", "key.pem", "-out", "sealed.pem", "-passout", "pass:secret"],
    );
    let sealed = std::fs::read_to_string(dir.path().join("sealed.pem")).unwrap();
    assert_eq!(parse_pem_key(&plain, None).unwrap(), parse_pem_key(&sealed, Some("secret")).unwrap());
    assert!(parse_pem_key(&sealed, None).unwrap_err().contains("ssl.key.password"));
    assert!(parse_pem_key(&sealed, Some("wrong")).unwrap_err().contains("ssl.key.password"));
    assert!(parse_pem_key("nothing", None).is_err());
}

#[test]
fn stores_of_keytool_are_read_in_both_of_its_forms() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    run(
        dir.path(),
        "openssl",
        &[
            "pkcs12",
            "-export",
            "-inkey",
            "key.pem",
            "-in",
            "cert.pem",
            "-passout",
            "pass:secret",
            "-out",
            "from.p12",
        ],
    );
    for kind in ["JKS", "PKCS12"] {
        run(
            dir.path(),
            "keytool",
            &[
                "-importkeystore",
                "-srckeystore",
                "from.p12",
                "-srcstoretype",
                "PKCS12",
                "-srcstorepass",
                "secret",
                "-destkeystore",
                kind,
                "-deststoretype",
                kind,
                "-deststorepass",
                "secret",
                "-noprompt",
            ],
        );
        has_one_key(&load(&dir.path().join(kind), StoreType::Pkcs12, Some("secret"), None).unwrap());
        let trust = format!("trust-{kind}");
        run(
            dir.path(),
            "keytool",
            &[
                "-importcert",
                "-file",
                "cert.pem",
                "-alias",
                "ca",
                "-keystore",
                &trust,
                "-storetype",
                kind,
                "-storepass",
                "secret",
                "-noprompt",
            ],
        );
        let trusted = load(&dir.path().join(&trust), StoreType::Jks, Some("secret"), None).unwrap();
        assert_eq!((trusted.keys.len(), trusted.certificates.len()), (0, 1));
        let error = load(&dir.path().join(&trust), StoreType::Jks, Some("wrong!"), None).unwrap_err();
        assert!(error.contains("password"), "{error}");
        let whole = std::fs::read(dir.path().join(kind)).unwrap();
        for cut in (0..whole.len()).step_by(7) {
            assert!(read(&whole[..cut], StoreType::Jks, Some("secret"), None).is_err());
        }
    }
}

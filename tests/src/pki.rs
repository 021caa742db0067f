//! A certificate authority of our own, made with the stock tools.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

/// Keys, certificates and stores in a folder. Every password is `secret`.
pub struct Pki {
    dir: TempDir,
}

impl Pki {
    /// An authority, a key for brokers (`broker`) and one for a user (`user`), each as PEM and PKCS#12, and a trust store
    /// in Java's format.
    pub fn new() -> Result<Self> {
        let pki = Self { dir: TempDir::with_prefix("pki-")? };
        pki.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca")?;
        pki.issue("broker", "/CN=broker", 1)?;
        pki.issue("user", "/C=DE/O=Example, Inc/CN=user", 1)?;
        let mut keytool = Command::new("keytool");
        keytool.args([
            "-importcert",
            "-noprompt",
            "-file",
            "ca.pem",
            "-alias",
            "ca",
            "-keystore",
            "trust.jks",
        ]);
        keytool.args(["-storetype", "JKS", "-storepass", "secret"]).current_dir(pki.dir.path());
        quietly(&mut keytool)?;
        Ok(pki)
    }

    /// Runs `openssl` in the folder, where every word of the line is an argument.
    pub fn openssl(&self, line: &str) -> Result<()> {
        // Underscores stand for blanks within a word.
        let words = line.split(' ').map(|word| word.replace('_', " "));
        quietly(Command::new("openssl").args(words).current_dir(self.dir.path()))
    }

    /// A certificate for `localhost`, valid for some days from now; its time is over where they are none.
    pub fn issue(&self, name: &str, subject: &str, days: i32) -> Result<()> {
        let subject = subject.replace(' ', "_");
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj {subject}"
        ))?;
        let extensions = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
        std::fs::write(self.path("ext"), extensions)?;
        if days > 0 {
            self.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.crt -extfile ext -days {days}"
            ))?;
        } else {
            self.expired(name)?;
        }
        let export =
            format!("pkcs12 -export -inkey {name}.key -in {name}.crt -passout pass:secret -out {name}.new");
        self.openssl(&export)?;
        // At once, as whoever renews a certificate should.
        std::fs::rename(self.path(&format!("{name}.new")), self.path(&format!("{name}.p12")))?;
        Ok(())
    }

    /// What `x509` cannot do in older versions: a certificate whose time is over.
    fn expired(&self, name: &str) -> Result<()> {
        std::fs::write(self.path("index.txt"), "")?;
        std::fs::write(self.path("serial"), "77\n")?;
        let config = "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n\
                      default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n";
        std::fs::write(self.path("ca.cnf"), config)?;
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.crt -extfile ext \
             -startdate 20200101000000Z -enddate 20200102000000Z"
        ))
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As [`Self::path`], as text.
    pub fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A token for `subject`, signed with the authority's key as RS256, and the key set that checks it in `jwks.json`.
    pub fn token(&self, subject: &str, life_s: i64) -> Result<String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
        let claims = serde_json::json!({"sub": subject, "iss": "https://issuer", "aud": "kafka", "iat": now, "exp": now + life_s});
        let signed =
            format!("{}.{}", base64(br#"{"alg":"RS256","kid":"k1"}"#), base64(claims.to_string().as_bytes()));
        std::fs::write(self.path("signed"), &signed)?;
        self.openssl("dgst -sha256 -sign ca.key -out signature signed")?;
        let signature = base64(&std::fs::read(self.path("signature"))?);
        let modulus = Command::new("openssl")
            .args(["rsa", "-in", "ca.key", "-noout", "-modulus"])
            .current_dir(self.dir.path())
            .output()?;
        let hex = String::from_utf8(modulus.stdout)?.trim().trim_start_matches("Modulus=").to_owned();
        let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16));
        let modulus = base64(&bytes.collect::<Result<Vec<u8>, _>>()?);
        let keys = serde_json::json!({"keys": [{"kty": "RSA", "kid": "k1", "use": "sig", "n": modulus, "e": "AQAB"}]});
        std::fs::write(self.path("jwks.json"), keys.to_string())?;
        Ok(format!("{signed}.{signature}"))
    }
}

/// What these programs say is of interest only where they fail.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// In the form of URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for piece in bytes.chunks(3) {
        let number = piece.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - piece.len()));
        for at in 0..=piece.len() {
            out.push(ALPHABET[(number >> (18 - 6 * at)) as usize & 63] as char);
        }
    }
    out
}

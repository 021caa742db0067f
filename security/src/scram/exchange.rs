//! The four messages, from either side.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;

use super::{Credential, MAX_ITERATIONS, MIN_ITERATIONS, Mechanism};
use crate::Secret;

/// No nonce needs to be longer.
const MAX_NONCE: usize = 1024;

/// The server, having read the client's first message.
#[derive(Debug)]
pub struct Server {
    pub username: String,
    mechanism: Mechanism,
    client_first_bare: String,
    client_nonce: String,
    /// Names that follow the user's, such as `tokenauth`.
    pub extensions: Vec<(String, String)>,
}

/// The server, having sent its first message.
#[derive(Debug)]
pub struct ServerFinal {
    mechanism: Mechanism,
    credential: Credential,
    client_first_bare: String,
    server_first: String,
    server_nonce: String,
}

impl Server {
    /// Reads `n,,n=user,r=nonce`.
    pub fn read(mechanism: Mechanism, message: &[u8]) -> Result<Self, String> {
        let wrong = || "Invalid SCRAM client first message format".to_owned();
        let text = std::str::from_utf8(message).map_err(|_| wrong())?;
        let mut parts = text.splitn(3, ',');
        let (flag, authorization, bare) = (
            parts.next().ok_or_else(wrong)?,
            parts.next().ok_or_else(wrong)?,
            parts.next().ok_or_else(wrong)?,
        );
        // Channel binding is not offered, so that a client that would use it ('p=') does not come here.
        if !matches!(flag, "n" | "y") {
            return Err(wrong());
        }
        let mut fields = bare.split(',');
        let name = fields.next().and_then(|field| field.strip_prefix("n=")).ok_or_else(wrong)?;
        let username = unescape(name).filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or_else(wrong)?;
        if nonce.is_empty() || nonce.len() > MAX_NONCE {
            return Err(wrong());
        }
        let authorization = authorization.strip_prefix("a=").map(unescape);
        if authorization.is_some_and(|wanted| wanted.as_deref() != Some(username.as_str())) {
            return Err(
                "Authentication failed: Client requested an authorization id that is different from username"
                    .into(),
            );
        }
        let pair =
            |field: &str| field.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self {
            username,
            mechanism,
            client_nonce: nonce.to_owned(),
            extensions: fields.filter_map(pair).collect(),
            client_first_bare: bare.to_owned(),
        })
    }

    /// The server's first message; `server_nonce` must be random and printable without commas.
    pub fn challenge(self, credential: Credential, server_nonce: &str) -> (ServerFinal, Vec<u8>) {
        let server_first = format!(
            "r={}{server_nonce},s={},i={}",
            self.client_nonce,
            STANDARD.encode(&credential.salt),
            credential.iterations
        );
        let message = server_first.clone().into_bytes();
        let Self { mechanism, client_first_bare, .. } = self;
        let server_nonce = server_nonce.to_owned();
        (ServerFinal { mechanism, credential, client_first_bare, server_first, server_nonce }, message)
    }
}

impl ServerFinal {
    /// Reads the client's proof; the server's final message where it is right.
    pub fn verify(self, message: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = || "Invalid SCRAM client final message format".to_owned();
        let text = std::str::from_utf8(message).map_err(|_| wrong())?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(wrong)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c=")).ok_or_else(wrong)?;
        let header = STANDARD.decode(binding).map_err(|_| wrong())?;
        if !(header.starts_with(b"n,") || header.starts_with(b"y,")) {
            return Err(wrong());
        }
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or_else(wrong)?;
        // As Kafka checks it: librdkafka before 2.6 puts its own part there twice.
        if !nonce.ends_with(&self.server_nonce) {
            return Err("Invalid client nonce in the final client message.".into());
        }
        let proof = STANDARD.decode(proof).map_err(|_| wrong())?;
        let auth = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = self.mechanism.hmac(&self.credential.stored_key, auth.as_bytes());
        let key = xor(&proof, &signature).ok_or("Invalid client credentials")?;
        if !bool::from(self.mechanism.hash(&key).ct_eq(&self.credential.stored_key)) {
            return Err("Invalid client credentials".into());
        }
        let signature = self.mechanism.hmac(&self.credential.server_key, auth.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }
}

/// The client, having sent its first message.
#[derive(Debug)]
pub struct Client {
    mechanism: Mechanism,
    password: Secret,
    first_bare: String,
    nonce: String,
}

/// The client, waiting for the server to prove itself.
#[derive(Debug)]
pub struct ClientFinal {
    server_signature: Vec<u8>,
}

impl Client {
    /// The first message; `nonce` must be random and printable without commas.
    pub fn start(mechanism: Mechanism, username: &str, password: Secret, nonce: &str) -> (Self, Vec<u8>) {
        let first_bare = format!("n={},r={nonce}", escape(username));
        let message = format!("n,,{first_bare}").into_bytes();
        (Self { mechanism, password, first_bare, nonce: nonce.to_owned() }, message)
    }

    /// Answers the server's challenge.
    pub fn answer(self, challenge: &[u8]) -> Result<(ClientFinal, Vec<u8>), String> {
        let wrong = || "the broker's SCRAM challenge is malformed".to_owned();
        let text = std::str::from_utf8(challenge).map_err(|_| wrong())?;
        let mut fields = text.split(',');
        let mut field =
            |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).ok_or_else(wrong);
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the broker's SCRAM nonce does not continue ours".into());
        }
        let salt = STANDARD.decode(salt).map_err(|_| wrong())?;
        let iterations: u32 = iterations.parse().map_err(|_| wrong())?;
        // Fewer make the password easy to guess from the exchange, many more only keep this client busy.
        if !(MIN_ITERATIONS..=MAX_ITERATIONS * 64).contains(&iterations) {
            return Err(format!(
                "the broker asks for {iterations} SCRAM iterations; at least {MIN_ITERATIONS} are expected"
            ));
        }
        let iterations = NonZeroU32::new(iterations).ok_or_else(wrong)?;
        let salted = self.mechanism.salted_password(self.password.expose(), &salt, iterations);
        let without_proof = format!("c=biws,r={nonce}");
        let auth = format!("{},{text},{without_proof}", self.first_bare);
        let client_key = self.mechanism.hmac(&salted, b"Client Key");
        let signature = self.mechanism.hmac(&self.mechanism.hash(&client_key), auth.as_bytes());
        let proof = xor(&client_key, &signature).ok_or_else(wrong)?;
        let server_key = self.mechanism.hmac(&salted, b"Server Key");
        let server_signature = self.mechanism.hmac(&server_key, auth.as_bytes());
        let message = format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes();
        Ok((ClientFinal { server_signature }, message))
    }
}

impl ClientFinal {
    /// Checks that the server knows the password too.
    pub fn verify(self, message: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(message);
        if let Some(error) = text.strip_prefix("e=") {
            return Err(format!("the broker answers: {error}"));
        }
        let signature = text.strip_prefix("v=").and_then(|text| STANDARD.decode(text).ok());
        match signature.is_some_and(|signature| signature.ct_eq(&self.server_signature).into()) {
            true => Ok(()),
            false => Err("the broker does not know the password: it is not the one that was meant".into()),
        }
    }
}

fn xor(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    (a.len() == b.len()).then(|| a.iter().zip(b).map(|(a, b)| a ^ b).collect())
}

fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// `None` where an equals sign begins neither of the two escapes.
fn unescape(name: &str) -> Option<String> {
    let plain = name.replace("=2C", "\0").replace("=3D", "\u{1}");
    if plain.contains('=') || name.contains(['\0', '\u{1}']) {
        return None;
    }
    Some(plain.replace('\0', ",").replace('\u{1}', "="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(mechanism: Mechanism, password: &str, salt: &[u8]) -> Credential {
        let salted = mechanism.salted_password(password, salt, NonZeroU32::new(4096).unwrap());
        Credential::from_salted(mechanism, &salted, salt.to_vec(), 4096)
    }

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn both_sides_give_the_messages_of_the_rfc() {
        let mechanism = Mechanism::Sha256;
        let (client, first) = Client::start(mechanism, "user", Secret::new("pencil"), "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = Server::read(mechanism, &first).unwrap();
        assert_eq!(server.username, "user");
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (server, challenge) =
            server.challenge(credential(mechanism, "pencil", &salt), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert_eq!(
            challenge,
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let (client, proof) = client.answer(&challenge).unwrap();
        assert_eq!(
            proof,
            &b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="[..]
        );
        let last = server.verify(&proof).unwrap();
        assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        client.verify(&last).unwrap();
    }

    #[test]
    fn a_wrong_password_a_false_server_and_a_changed_nonce_are_found_out() {
        let mechanism = Mechanism::Sha512;
        for (password, good) in [("secret", true), ("Secret", false)] {
            let (client, first) = Client::start(mechanism, "a,b=c", Secret::new(password), "abc");
            let server = Server::read(mechanism, &first).unwrap();
            assert_eq!(server.username, "a,b=c");
            let (server, challenge) = server.challenge(credential(mechanism, "secret", b"salt"), "def");
            let (client, proof) = client.answer(&challenge).unwrap();
            let last = server.verify(&proof);
            assert_eq!(last.is_ok(), good);
            assert!(client.verify(b"v=AAAA").is_err());
        }
        let (client, _) = Client::start(mechanism, "u", Secret::new("p"), "abc");
        assert!(client.answer(b"r=xyz,s=AAAA,i=4096").is_err());
        let (client, _) = Client::start(mechanism, "u", Secret::new("p"), "abc");
        assert!(client.answer(b"r=abcd,s=AAAA,i=1").is_err());
    }

    #[test]
    fn malformed_messages_are_errors() {
        for bad in [
            "",
            "n,,",
            "n,,n=u",
            "n,,n=,r=x",
            "n,,n=u,r=",
            "p=tls-unique,,n=u,r=x",
            "n,,n=a=b,r=x",
            "n,a=o,n=u,r=x",
        ] {
            assert!(Server::read(Mechanism::Sha256, bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "c=biws,r=ab", "c=biws,r=ab,p=!", "c=biws,r=zz,p=AAAA", "c=biws,r=ab,p=AAAA"] {
            let server = Server::read(Mechanism::Sha256, b"n,,n=u,r=a").unwrap();
            let (server, _) = server.challenge(credential(Mechanism::Sha256, "p", b"salt"), "b");
            assert!(server.verify(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

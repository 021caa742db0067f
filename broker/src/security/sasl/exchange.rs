//! The messages of one authentication: pure, one message in and one step out.

use std::mem;

use aqueduct_security::scram::{self, Credential, Mechanism};
use aqueduct_security::{oauth, plain};

use super::SaslSetup;

/// An exchange under way.
#[derive(Debug)]
pub(crate) enum Exchange {
    Plain,
    ScramFirst(Mechanism),
    ScramFinal {
        username: String,
        exchange: scram::ServerFinal,
    },
    Oauth,
    /// A token is being checked.
    OauthChecking {
        authorization: String,
    },
    /// The client was told that its token does not hold, and has to say that it gives up.
    OauthRefused,
    Ended,
}

/// What comes of a message.
#[derive(Debug)]
pub(crate) enum Step {
    /// The exchange goes on with this.
    Continue(Vec<u8>),
    /// The client is who it says.
    Done { user: String, expires_at_ms: Option<i64>, reply: Vec<u8> },
    /// The token is to be checked, and [`Exchange::token_checked`] to be told what came of it.
    CheckToken(aqueduct_security::Secret),
    /// It is over. The first text is for the client, the second for the log.
    Failed { answer: String, why: String },
}

/// What the exchange looks up.
pub(crate) struct Lookup<'a> {
    pub setup: &'a SaslSetup,
    pub scram: &'a dyn Fn(Mechanism, &str) -> Option<Credential>,
    /// Random, for SCRAM.
    pub nonce: &'a str,
}

impl Exchange {
    /// An exchange of an enabled mechanism; `None` for any other.
    pub fn begin(mechanism: &str) -> Option<Self> {
        match mechanism {
            "PLAIN" => Some(Self::Plain),
            "OAUTHBEARER" => Some(Self::Oauth),
            name => Mechanism::parse(name).map(Self::ScramFirst),
        }
    }

    /// Takes the client's next message.
    pub fn step(&mut self, message: &[u8], lookup: &Lookup<'_>) -> Step {
        match mem::replace(self, Self::Ended) {
            Self::Plain => plain_step(message, lookup.setup),
            Self::ScramFirst(mechanism) => self.scram_first(mechanism, message, lookup),
            Self::ScramFinal { username, exchange } => match exchange.verify(message) {
                Ok(reply) => Step::Done { user: username, expires_at_ms: None, reply },
                Err(why) => invalid_credentials(why),
            },
            Self::Oauth => match oauth::parse(message) {
                Ok(login) => {
                    *self = Self::OauthChecking { authorization: login.authorization };
                    Step::CheckToken(login.token)
                }
                Err(why) => Step::Failed { answer: why.clone(), why },
            },
            Self::OauthRefused => {
                let why = "the token was refused".to_owned();
                Step::Failed { answer: REFUSED.to_owned(), why }
            }
            Self::OauthChecking { .. } | Self::Ended => {
                let why = "a message after the end of the exchange".to_owned();
                Step::Failed { answer: why.clone(), why }
            }
        }
    }

    fn scram_first(&mut self, mechanism: Mechanism, message: &[u8], lookup: &Lookup<'_>) -> Step {
        let server = match scram::Server::read(mechanism, message) {
            Ok(server) => server,
            Err(why) => return invalid_credentials(why),
        };
        if server.extensions.iter().any(|(name, value)| name == "tokenauth" && value == "true") {
            return invalid_credentials("delegation tokens are not supported".into());
        }
        let username = server.username.clone();
        let Some(credential) = (lookup.scram)(mechanism, &username) else {
            return invalid_credentials(format!("user {username} has no {} credential", mechanism.name()));
        };
        let (exchange, challenge) = server.challenge(credential, lookup.nonce);
        *self = Self::ScramFinal { username, exchange };
        Step::Continue(challenge)
    }

    /// What came of the check that [`Step::CheckToken`] asked for: the subject and when the token expires.
    pub fn token_checked(&mut self, checked: Result<(String, i64), String>) -> Step {
        let Self::OauthChecking { authorization } = mem::replace(self, Self::Ended) else {
            let why = "no token is being checked".to_owned();
            return Step::Failed { answer: why.clone(), why };
        };
        match checked {
            Ok((user, _)) if !authorization.is_empty() && authorization != user => {
                let answer = format!(
                    "Authentication failed: Client requested an authorization id ({authorization}) that is different from \
                     the token's principal name ({user})"
                );
                Step::Failed { why: answer.clone(), answer }
            }
            Ok((user, expires_at_ms)) => {
                Step::Done { user, expires_at_ms: Some(expires_at_ms), reply: Vec::new() }
            }
            // The mechanism has the client hear of it before the exchange fails.
            Err(why) => {
                tracing::info!(reason = why, "token was refused");
                *self = Self::OauthRefused;
                Step::Continue(REFUSED.as_bytes().to_vec())
            }
        }
    }
}

const REFUSED: &str = r#"{"status":"invalid_token"}"#;

fn plain_step(message: &[u8], setup: &SaslSetup) -> Step {
    let login = match plain::parse(message) {
        Ok(login) => login,
        Err(why) => return Step::Failed { answer: why.clone(), why },
    };
    let known = setup.plain.get(&login.username);
    // Compared whether or not there is such a user, so that the time tells neither.
    let nobody = aqueduct_security::Secret::new("\0");
    let right = known.unwrap_or(&nobody).matches(login.password.expose());
    if known.is_some() && right {
        return Step::Done { user: login.username, expires_at_ms: None, reply: Vec::new() };
    }
    Step::Failed {
        answer: "Authentication failed: Invalid username or password".into(),
        why: format!("PLAIN: invalid user name or password of {}", login.username),
    }
}

/// The answer is the caller's to make, from the mechanism: what exactly is wrong is not for the client.
fn invalid_credentials(why: String) -> Step {
    Step::Failed { answer: String::new(), why }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use aqueduct_security::Secret;

    use super::*;

    fn setup() -> SaslSetup {
        SaslSetup::of_users(BTreeMap::from([("alice".to_owned(), Secret::new("secret"))]), Duration::ZERO)
    }

    fn step(exchange: &mut Exchange, message: &[u8]) -> Step {
        let setup = setup();
        let scram = |mechanism: Mechanism, user: &str| {
            let salted = mechanism.salted_password("secret", b"salt", NonZeroU32::new(4096).unwrap());
            (user == "alice").then(|| Credential::from_salted(mechanism, &salted, b"salt".to_vec(), 4096))
        };
        exchange.step(message, &Lookup { setup: &setup, scram: &scram, nonce: "server" })
    }

    #[test]
    fn plain_knows_its_users() {
        for (message, good) in [
            (&b"\0alice\0secret"[..], true),
            (b"\0alice\0Secret", false),
            (b"\0bob\0secret", false),
            (b"\0bob\0\0", false),
            (b"garbage", false),
        ] {
            let step = step(&mut Exchange::begin("PLAIN").unwrap(), message);
            assert_eq!(matches!(step, Step::Done { .. }), good, "{step:?}");
            assert!(!format!("{step:?}").contains("secret"));
        }
    }

    #[test]
    fn scram_takes_two_messages() {
        for (user, password, good) in
            [("alice", "secret", true), ("alice", "x", false), ("bob", "secret", false)]
        {
            let mut exchange = Exchange::begin("SCRAM-SHA-512").unwrap();
            let (client, first) =
                scram::Client::start(Mechanism::Sha512, user, Secret::new(password), "client");
            let Step::Continue(challenge) = step(&mut exchange, &first) else {
                assert!(!good);
                continue;
            };
            let (client, proof) = client.answer(&challenge).unwrap();
            match step(&mut exchange, &proof) {
                Step::Done { user, reply, .. } => {
                    assert!(good && user == "alice");
                    client.verify(&reply).unwrap();
                }
                other => assert!(!good, "{other:?}"),
            }
            assert!(matches!(step(&mut exchange, &proof), Step::Failed { .. }), "it is over");
        }
    }

    #[test]
    fn a_refused_token_is_told_before_the_end() {
        let message = oauth::message(&Secret::new("a.b.c"), &BTreeMap::new());
        let mut exchange = Exchange::begin("OAUTHBEARER").unwrap();
        assert!(matches!(step(&mut exchange, &message), Step::CheckToken(_)));
        let Step::Continue(told) = exchange.token_checked(Err("expired".into())) else { panic!() };
        assert_eq!(told, br#"{"status":"invalid_token"}"#);
        let Step::Failed { answer, .. } = step(&mut exchange, oauth::ABORT) else { panic!() };
        assert_eq!(answer, r#"{"status":"invalid_token"}"#);

        let mut exchange = Exchange::begin("OAUTHBEARER").unwrap();
        step(&mut exchange, &message);
        let done = exchange.token_checked(Ok(("svc".into(), 7)));
        assert!(matches!(done, Step::Done { expires_at_ms: Some(7), .. }));
        let mut exchange = Exchange::begin("OAUTHBEARER").unwrap();
        step(&mut exchange, b"n,a=other,\x01auth=Bearer a.b.c\x01\x01");
        assert!(matches!(exchange.token_checked(Ok(("svc".into(), 7))), Step::Failed { .. }));
        assert!(Exchange::begin("GSSAPI").is_none());
    }
}

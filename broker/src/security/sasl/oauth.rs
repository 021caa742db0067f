//! Which tokens of OAUTHBEARER hold.

use std::sync::Arc;

use aqueduct_security::jwt::{Rules, Token};
use aqueduct_security::{Error, Secret};

use super::super::listener::ListenerSettings;
use super::jwks::{Jwks, JwksOptions};
use super::setup;

const MECHANISM: &str = "OAUTHBEARER";

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct OauthValidator {
    rules: Rules,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Tokens are signed with one of these keys.
    Keys(Arc<Jwks>),
    /// Tokens are not signed at all: anybody can make one. For development.
    Unsecured,
}

impl OauthValidator {
    /// Reads the settings; keys that `before` fetched are kept where they come from the same place.
    pub fn read(settings: &ListenerSettings<'_>, before: Option<&Arc<Self>>) -> Result<Arc<Self>, Error> {
        setup::no_handler(settings, MECHANISM)?;
        let value = |key: &str| {
            let found = settings.find_for(MECHANISM, key).map(|(_, value)| value.trim().to_owned());
            found.filter(|value| !value.is_empty())
        };
        if let Some(location) = value("sasl.oauthbearer.jwks.endpoint.url") {
            let number =
                |key: &str| value(key).map_or_else(|| settings.number(key), |text| text.parse().unwrap_or(0));
            let options = JwksOptions {
                location,
                refresh_ms: number("sasl.oauthbearer.jwks.endpoint.refresh.ms"),
                retry_ms: number("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms"),
            };
            let kept = before.and_then(|before| match &before.source {
                Source::Keys(jwks) if jwks.options == options => Some(jwks.clone()),
                _ => None,
            });
            let jwks = match kept {
                Some(jwks) => jwks,
                None => Arc::new(Jwks::open(options)?),
            };
            let list = value("sasl.oauthbearer.expected.audience").unwrap_or_default();
            let rules = Rules {
                audiences: list
                    .split(',')
                    .map(|word| word.trim().to_owned())
                    .filter(|word| !word.is_empty())
                    .collect(),
                issuer: value("sasl.oauthbearer.expected.issuer"),
                subject_claim: value("sasl.oauthbearer.sub.claim.name").unwrap_or_else(|| "sub".into()),
                scope_claim: value("sasl.oauthbearer.scope.claim.name").unwrap_or_else(|| "scope".into()),
                clock_skew_seconds: number("sasl.oauthbearer.clock.skew.seconds"),
                ..Rules::default()
            };
            return Ok(Arc::new(Self { rules, source: Source::Keys(jwks) }));
        }
        Self::unsecured(settings)
    }

    /// Java checks nothing but the claims where nothing is configured; here that has to be asked for.
    fn unsecured(settings: &ListenerSettings<'_>) -> Result<Arc<Self>, Error> {
        const KEY: &str = "sasl.oauthbearer.jwks.endpoint.url";
        let jaas = setup::jaas(settings, MECHANISM)?;
        let jaas = jaas.filter(|jaas| jaas.options().any(|(name, _)| name.starts_with("unsecured"))).ok_or_else(|| {
            let why = "must be set where OAUTHBEARER is enabled (https:// or file://); for tokens without a signature, in \
                       development only, set an option unsecuredValidator... or unsecuredLogin... in sasl.jaas.config";
            Error::setting(KEY, why)
        })?;
        let option = |name: &str| jaas.option(name).map(|value| value.expose().to_owned());
        let skew_ms: i64 =
            option("unsecuredValidatorAllowableClockSkewMs").and_then(|text| text.parse().ok()).unwrap_or(0);
        let rules = Rules {
            subject_claim: option("unsecuredValidatorPrincipalClaimName").unwrap_or_else(|| "sub".into()),
            scope_claim: option("unsecuredValidatorScopeClaimName").unwrap_or_else(|| "scope".into()),
            required_scopes: option("unsecuredValidatorRequiredScope")
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            clock_skew_seconds: skew_ms / 1000,
            require_issued_at: false,
            ..Rules::default()
        };
        tracing::warn!("OAUTHBEARER accepts tokens without a signature: anybody can be anybody");
        Ok(Arc::new(Self { rules, source: Source::Unsecured }))
    }

    /// The subject of a token and when it expires; an error is for the log.
    pub async fn check(&self, token: &Secret, now_ms: i64) -> Result<(String, i64), String> {
        let token = Token::parse(token.expose())?;
        match &self.source {
            Source::Unsecured if token.is_unsecured() => {}
            Source::Unsecured => {
                return Err("the token is signed where one without a signature is expected".into());
            }
            Source::Keys(jwks) => {
                let keys = jwks.keys(token.key_id.as_deref(), now_ms).await;
                token.verify(&keys)?;
            }
        }
        let identity = token.check(&self.rules, now_ms)?;
        Ok((identity.subject, identity.expires_at_ms))
    }
}

//! How long an authenticated session lasts (KIP-368): pure.

/// Kafka swallows attempts to authenticate again that come faster.
const MIN_REAUTH_INTERVAL_MS: i64 = 1000;

/// The life of one session; times are milliseconds of one clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// `None` where it lasts as long as the connection.
    pub expires_at_ms: Option<i64>,
    last_attempt_ms: Option<i64>,
}

/// What to do with a request on an authenticated connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Serve,
    /// It is a handshake, and begins the authentication anew.
    Reauthenticate,
    /// The session is over.
    Expired,
}

impl Lifetime {
    /// A session that begins now, and how many milliseconds of it the client is told; 0 stands for no end.
    pub fn begin(
        now_ms: i64,
        credential_expires_at_ms: Option<i64>,
        max_reauth_ms: Option<i64>,
    ) -> (Self, i64) {
        let left = credential_expires_at_ms.map(|at| at.saturating_sub(now_ms));
        let length = match (left, max_reauth_ms) {
            (None, None) => return (Self::default(), 0),
            (Some(length), None) | (None, Some(length)) => length,
            (Some(left), Some(limit)) => left.min(limit),
        }
        .max(0);
        (Self { expires_at_ms: Some(now_ms.saturating_add(length)), last_attempt_ms: None }, length)
    }

    /// Judges a request.
    pub fn judge(&mut self, is_handshake: bool, now_ms: i64) -> Verdict {
        let Some(expires_at_ms) = self.expires_at_ms else { return Verdict::Serve };
        if is_handshake {
            let too_soon = self.last_attempt_ms.is_some_and(|last| now_ms - last < MIN_REAUTH_INTERVAL_MS);
            if !too_soon {
                self.last_attempt_ms = Some(now_ms);
                return Verdict::Reauthenticate;
            }
            return Verdict::Serve;
        }
        if now_ms > expires_at_ms { Verdict::Expired } else { Verdict::Serve }
    }

    /// The session that follows this one.
    pub fn follow(self, next: Self) -> Self {
        Self { last_attempt_ms: self.last_attempt_ms, ..next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_credential_and_limit_counts() {
        assert_eq!(Lifetime::begin(100, None, None).1, 0);
        assert_eq!(
            Lifetime::begin(100, None, Some(50)),
            (Lifetime { expires_at_ms: Some(150), last_attempt_ms: None }, 50)
        );
        assert_eq!(Lifetime::begin(100, Some(130), Some(50)).1, 30);
        assert_eq!(Lifetime::begin(100, Some(500), Some(50)).1, 50);
        assert_eq!(Lifetime::begin(100, Some(90), None).1, 0);
    }

    #[test]
    fn a_session_ends_unless_it_is_renewed() {
        let mut life = Lifetime::default();
        assert_eq!(life.judge(true, i64::MAX), Verdict::Serve, "nothing to renew");
        let (mut life, _) = Lifetime::begin(0, None, Some(5000));
        assert_eq!(life.judge(false, 5000), Verdict::Serve);
        assert_eq!(life.judge(false, 5001), Verdict::Expired);
        assert_eq!(life.judge(true, 5001), Verdict::Reauthenticate);
        assert_eq!(life.judge(true, 5500), Verdict::Serve, "too soon");
        let mut next = life.follow(Lifetime::begin(5600, None, Some(5000)).0);
        assert_eq!(next.judge(true, 5900), Verdict::Serve);
        assert_eq!(next.judge(false, 10_000), Verdict::Serve);
        assert_eq!(next.judge(true, 10_000), Verdict::Reauthenticate);
    }
}

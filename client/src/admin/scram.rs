//! SCRAM credentials of users. Passwords do not leave this process: the broker gets what is derived from them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use aqueduct_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use aqueduct_protocol::messages::describe_user_scram_credentials_request::UserName;
use aqueduct_protocol::messages::{AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest};
use aqueduct_security::scram::{MAX_ITERATIONS, MIN_ITERATIONS, Mechanism};
use bytes::Bytes;
use bytestring::ByteString;

use super::{Admin, Each};
use crate::error::{Error, Result};

const DESCRIBE: &str = "DescribeUserScramCredentials";
const ALTER: &str = "AlterUserScramCredentials";

impl Admin {
    /// The mechanisms and iterations of users; of all users where none is named. One that has none gives the inner code
    /// `RESOURCE_NOT_FOUND`.
    pub async fn describe_user_scram_credentials(
        &self,
        users: &[ByteString],
    ) -> Result<Each<ByteString, BTreeMap<Mechanism, i32>>> {
        let mut retry = self.retry(DESCRIBE);
        loop {
            let names = || users.iter().map(|name| UserName { name: name.clone() }).collect();
            let request = |_| DescribeUserScramCredentialsRequest { users: (!users.is_empty()).then(names) };
            let asked = self.client.call_any(i16::MAX, request).await.and_then(|(broker, answer)| {
                let message = answer.error_message.as_deref();
                Error::check(&broker.address(), DESCRIBE, || "users".to_owned(), answer.error_code, message)?;
                Ok((broker, answer))
            });
            match asked {
                Ok((broker, answer)) => {
                    let each = answer.results.into_iter().map(|result| {
                        let (what, message) =
                            (|| format!("user {}", result.user), result.error_message.as_deref());
                        let checked =
                            Error::check(&broker.address(), DESCRIBE, what, result.error_code, message);
                        let infos = result.credential_infos.iter().filter_map(|info| {
                            Some((Mechanism::from_code(info.mechanism)?, info.iterations))
                        });
                        (result.user.clone(), checked.map(|()| infos.collect()))
                    });
                    return Ok(each.collect());
                }
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    /// Sets a user's credential of one mechanism, with a salt of its own and as many iterations as Kafka allows at most.
    pub async fn upsert_scram_credential(
        &self,
        user: &str,
        mechanism: Mechanism,
        iterations: u32,
        password: &str,
    ) -> Result<()> {
        let salt: [u8; 32] = rand::random();
        let iterations =
            NonZeroU32::new(iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS)).unwrap_or(NonZeroU32::MIN);
        let salted = mechanism.salted_password(password, &salt, iterations);
        let upsertion = ScramCredentialUpsertion {
            name: user.into(),
            mechanism: mechanism as i8,
            iterations: iterations.get() as i32,
            salt: Bytes::copy_from_slice(&salt),
            salted_password: salted.into(),
        };
        self.alter_scram(user, Vec::new(), vec![upsertion]).await
    }

    /// Removes a user's credential of one mechanism.
    pub async fn delete_scram_credential(&self, user: &str, mechanism: Mechanism) -> Result<()> {
        let deletion = ScramCredentialDeletion { name: user.into(), mechanism: mechanism as i8 };
        self.alter_scram(user, vec![deletion], Vec::new()).await
    }

    async fn alter_scram(
        &self,
        user: &str,
        deletions: Vec<ScramCredentialDeletion>,
        upsertions: Vec<ScramCredentialUpsertion>,
    ) -> Result<()> {
        let mut retry = self.retry(ALTER);
        loop {
            let request = |_| AlterUserScramCredentialsRequest {
                deletions: deletions.clone(),
                upsertions: upsertions.clone(),
            };
            let done = self.client.call_any(i16::MAX, request).await.and_then(|(broker, mut answer)| {
                let address = broker.address();
                let result = answer.results.pop();
                let result = result.ok_or_else(|| Error::left_out(&address, ALTER, &user))?;
                let message = result.error_message.as_deref();
                Error::check(&address, ALTER, || format!("user {user}"), result.error_code, message)
            });
            match done {
                Ok(()) => return Ok(()),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }
}

//! What peers send before they are authenticated, and texts and stores of security settings: no input may do more than
//! fail.

#![no_main]

use aqueduct_fuzz::Seeds;
use aqueduct_security::scram::{Credential, Mechanism, Server};
use aqueduct_security::store::{self, StoreType};
use aqueduct_security::{dn, jaas::Jaas, jwt, mapping::Rules, oauth, plain};
use libfuzzer_sys::fuzz_target;

const SEEDS: &[&[u8]] = &[
    b"\x00\0alice\0secret",
    b"\x01n,,\x01auth=Bearer a.b.c\x01traceId=1\x01\x01",
    b"\x02eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjoxODAwMDAwMDAwLCJpYXQiOjF9.",
    b"\x03{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"r\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
    b"\x04n,,n=user,r=abcdefc=biws,r=noncexx,p=AAAA",
    b"\x06a.PlainLoginModule required user_a=\"b\";",
    b"\x06RULE:^CN=(.*?),OU=(.*?)$/$1@$2/L,DEFAULT",
    b"\x08\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\x01a\0\0\0\0\0\0\0\x01\0\x05X.509\0\0\0\x020\0",
    b"\x090\x10\x02\x01\x030\x0b\x06\x09*\x86H\x86\xf7\r\x01\x07\x01",
    b"\x07-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
];

fuzz_target!(
    init: {
        let mut seeds = Seeds::new();
        SEEDS.iter().for_each(|seed| seeds.put(seed));
    },
    |input: &[u8]| {
        let Some((which, bytes)) = input.split_first() else { return };
        let text = String::from_utf8_lossy(bytes);
        match which % 10 {
            0 => drop(plain::parse(bytes)),
            1 => drop(oauth::parse(bytes)),
            2 => {
                if let Ok(token) = jwt::Token::parse(&text) {
                    let _ = token.check(&jwt::Rules::default(), 1_700_000_000_000);
                    let _ = token.verify(&jwt::KeySet::default());
                }
            }
            3 => drop(jwt::KeySet::parse(&text)),
            4 => {
                // The client's two messages, one after the other.
                let (first, last) = bytes.split_at(bytes.len() / 2);
                if let Ok(server) = Server::read(Mechanism::Sha256, first) {
                    let salted = [7; 32];
                    let credential = Credential::from_salted(Mechanism::Sha256, &salted, b"salt".to_vec(), 4096);
                    let (server, _) = server.challenge(credential, "nonce");
                    let _ = server.verify(last);
                }
            }
            5 => drop(dn::subject(bytes)),
            6 => {
                drop(Jaas::parse("sasl.jaas.config", &text));
                if let Ok(rules) = Rules::parse(&text) {
                    let _ = rules.apply("CN=a,O=b");
                }
            }
            7 => drop(store::read(bytes, StoreType::Pem, None, None)),
            8 => drop(store::read(&[&[0xfe, 0xed, 0xfe, 0xed], bytes].concat(), StoreType::Jks, Some("secret"), None)),
            _ => drop(store::read(bytes, StoreType::Pkcs12, Some("secret"), None)),
        }
}
);

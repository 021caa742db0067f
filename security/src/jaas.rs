//! `sasl.jaas.config`: a login module and its options, in the syntax of Java's login configuration.

use std::collections::BTreeMap;

use crate::{Error, Secret};

/// One entry. The values may be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jaas {
    /// Class name of the login module.
    pub module: String,
    options: BTreeMap<String, Secret>,
}

impl Jaas {
    /// Reads the value of the setting `key`: `MODULE required NAME=VALUE ...;`.
    ///
    /// # Errors
    /// What the text lacks; no value is part of the error.
    pub fn parse(key: &str, text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::setting(key, why);
        let tokens = tokens(text).ok_or_else(|| wrong("a quoted value is not closed"))?;
        let mut tokens = tokens.into_iter();
        let word = |token: Option<Token>| match token {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        };
        let module =
            word(tokens.next()).ok_or_else(|| wrong("must begin with the class of a login module"))?;
        let flag = word(tokens.next()).unwrap_or_default().to_ascii_lowercase();
        if !matches!(flag.as_str(), "required" | "requisite" | "sufficient" | "optional") {
            return Err(wrong("the login module must be followed by 'required'"));
        }
        let mut options = BTreeMap::new();
        loop {
            let name = match tokens.next() {
                Some(Token::End) => break,
                Some(Token::Word(name)) => name,
                None => return Err(wrong("must end in a semicolon")),
                _ => return Err(wrong("options must look like name=\"value\"")),
            };
            match (tokens.next(), tokens.next()) {
                (Some(Token::Equals), Some(Token::Word(value) | Token::Quoted(value))) => {
                    options.insert(name, Secret::new(value));
                }
                _ => return Err(wrong(&format!("option {name} must be followed by =\"value\""))),
            }
        }
        if tokens.next().is_some() {
            return Err(wrong("must hold one login module"));
        }
        Ok(Self { module, options })
    }

    /// The last part of the module's class name.
    pub fn module_name(&self) -> &str {
        self.module.rsplit('.').next().unwrap_or_default()
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&Secret> {
        self.options.get(name)
    }

    /// The names and values of all options.
    pub fn options(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value))
    }
}

#[derive(PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Equals,
    End,
}

/// `None` where a quote is not closed.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '=' => tokens.push(Token::Equals),
            ';' => tokens.push(Token::End),
            '/' if chars.peek() == Some(&'/') => while chars.next().is_some_and(|c| c != '\n') {},
            '"' | '\'' => tokens.push(Token::Quoted(quoted(&mut chars, c)?)),
            c => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|c| !c.is_whitespace() && !matches!(c, '=' | ';' | '"'))
                {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Some(tokens)
}

fn quoted(chars: &mut impl Iterator<Item = char>, end: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == end => return Some(text),
            '\\' => text.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_java_reads_them() {
        let text = "org.apache.kafka.common.security.plain.PlainLoginModule required\n  username=\"admin\" \
                    password=\"a \\\"b\\\\\"\n user_bob = 'x=y;' debug=true;";
        let jaas = Jaas::parse("sasl.jaas.config", text).unwrap();
        assert_eq!(jaas.module_name(), "PlainLoginModule");
        let value = |name| jaas.option(name).map(Secret::expose);
        assert_eq!(value("username"), Some("admin"));
        assert_eq!(value("password"), Some("a \"b\\"));
        assert_eq!(value("user_bob"), Some("x=y;"));
        assert_eq!(value("debug"), Some("true"));
        assert!(!format!("{jaas:?}").contains("x=y"));
    }

    #[test]
    fn mistakes_are_named_without_the_values() {
        for (text, part) in [
            ("", "class of a login module"),
            ("M", "required"),
            ("M sometimes;", "required"),
            ("M required a=\"geheim\"", "semicolon"),
            ("M required a=\"geheim;", "not closed"),
            ("M required password \"geheim\";", "option password"),
            ("M required; N required;", "one login module"),
        ] {
            let error = Jaas::parse("k", text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("geheim"), "{error}");
        }
    }
}

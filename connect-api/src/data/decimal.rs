//! Decimals of any size.

use std::fmt;
use std::str::FromStr;

use num_bigint::{BigInt, Sign};

/// `unscaled` × 10^-`scale`, as the logical type `Decimal` carries it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    pub unscaled: BigInt,
    pub scale: i32,
}

impl Decimal {
    pub fn new(unscaled: impl Into<BigInt>, scale: i32) -> Self {
        Self { unscaled: unscaled.into(), scale }
    }

    /// The unscaled value as big-endian two's complement in the fewest bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.unscaled.to_signed_bytes_be()
    }

    /// Reads what [`Decimal::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8], scale: i32) -> Self {
        Self { unscaled: BigInt::from_signed_bytes_be(bytes), scale }
    }

    /// The same number with `scale` digits after the point; `None` where digits would be lost, or `scale` is absurd.
    pub fn with_scale(&self, scale: i32) -> Option<Self> {
        let by = scale.checked_sub(self.scale)?;
        if by.unsigned_abs() > 10_000 {
            return None;
        }
        let ten = BigInt::from(10).pow(by.unsigned_abs());
        if by >= 0 {
            return Some(Self { unscaled: &self.unscaled * ten, scale });
        }
        let quotient = &self.unscaled / &ten;
        (&quotient * ten == self.unscaled).then_some(Self { unscaled: quotient, scale })
    }

    /// The nearest double.
    pub fn to_f64(&self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// Digits with a point and never an exponent.
    pub fn to_plain_string(&self) -> String {
        let digits = self.unscaled.magnitude().to_string();
        let sign = if self.unscaled.sign() == Sign::Minus { "-" } else { "" };
        match self.scale {
            0 => format!("{sign}{digits}"),
            scale if scale < 0 => {
                if digits == "0" {
                    return "0".to_owned();
                }
                format!("{sign}{digits}{}", "0".repeat(scale.unsigned_abs() as usize))
            }
            scale => {
                let scale = scale as usize;
                if digits.len() > scale {
                    let (whole, part) = digits.split_at(digits.len() - scale);
                    format!("{sign}{whole}.{part}")
                } else {
                    format!("{sign}0.{digits:0>scale$}")
                }
            }
        }
    }
}

impl fmt::Display for Decimal {
    /// As `java.math.BigDecimal` prints itself: plain unless the exponent would be below -6 or the scale is negative.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unscaled.magnitude().to_string();
        let exponent = -i64::from(self.scale) + digits.len() as i64 - 1;
        if self.scale >= 0 && exponent >= -6 {
            return f.write_str(&self.to_plain_string());
        }
        if self.unscaled.sign() == Sign::Minus {
            f.write_str("-")?;
        }
        f.write_str(&digits[..1])?;
        if digits.len() > 1 {
            write!(f, ".{}", &digits[1..])?;
        }
        if exponent != 0 {
            write!(f, "E{exponent:+}")?;
        }
        Ok(())
    }
}

/// Text that is not a decimal number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a decimal number")]
pub struct ParseDecimalError(String);

impl FromStr for Decimal {
    type Err = ParseDecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseDecimalError(text.chars().take(64).collect());
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| bad())?),
            None => (text, 0),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{part}");
        let unscaled = digits.parse::<BigInt>().map_err(|_| bad())?;
        let scale = i32::try_from(part.len()).ok().and_then(|s| s.checked_sub(exponent)).ok_or_else(bad)?;
        Ok(Self { unscaled, scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_java_does() {
        for (unscaled, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (12345, 2, "123.45"),
            (-5, 3, "-0.005"),
            (5, 7, "5E-7"),
            (123, 10, "1.23E-8"),
            (7, -2, "7E+2"),
            (-70, -1, "-7.0E+2"),
        ] {
            assert_eq!(Decimal::new(unscaled, scale).to_string(), text);
            assert_eq!(text.parse::<Decimal>().expect(text), Decimal::new(unscaled, scale));
        }
    }

    #[test]
    fn bytes_are_shortest_twos_complement() {
        for (value, bytes) in
            [(0, &[0u8][..]), (127, &[127]), (128, &[0, 128]), (-1, &[255]), (-129, &[255, 127])]
        {
            assert_eq!(Decimal::new(value, 0).to_bytes(), bytes);
            assert_eq!(Decimal::from_bytes(bytes, 0), Decimal::new(value, 0));
        }
    }

    #[test]
    fn rescaling_never_loses_digits() {
        assert_eq!(Decimal::new(120, 2).with_scale(1), Some(Decimal::new(12, 1)));
        assert_eq!(Decimal::new(125, 2).with_scale(1), None);
        assert_eq!(Decimal::new(1, 0).with_scale(3), Some(Decimal::new(1000, 3)));
    }
}

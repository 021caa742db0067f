//! Which rows a query asks for: mode and offset to SQL.

use chrono_tz::Tz;

use crate::dialect::Dialect;
use crate::offset::Offset;
use crate::table::quoted;
use crate::time::Moment;

/// Columns by which new rows are told from old ones; neither in bulk mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    pub incrementing: Option<String>,
    /// The first that is not null counts.
    pub timestamps: Vec<String>,
}

/// How names and times are written.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    pub dialect: &'a dyn Dialect,
    /// `quote.sql.identifiers`.
    pub quote: bool,
    /// The zone in which the timestamp columns hold wall clocks.
    pub zone: Tz,
}

impl Style<'_> {
    /// A column's or table's name.
    pub fn name(&self, name: &str) -> String {
        if self.quote { quoted(name, self.dialect.quote()) } else { name.to_owned() }
    }
}

impl Criteria {
    /// What follows `SELECT … FROM …`: rows after `offset` and before `end`, in order.
    pub fn clauses(&self, style: Style<'_>, offset: &Offset, end: Option<Moment>) -> String {
        let timestamp = self.timestamp_expression(style);
        let id = self.incrementing.as_deref().map(|name| style.name(name));
        let literal = |moment| style.dialect.timestamp_literal(moment, style.zone);
        let mut conditions = Vec::new();
        match (&timestamp, &id) {
            (None, None) => return String::new(),
            (None, Some(id)) => conditions.extend(offset.incrementing.map(|seen| format!("{id} > {seen}"))),
            (Some(ts), id) => {
                conditions.extend(end.map(|end| format!("{ts} < {}", literal(end))));
                conditions.extend(offset.timestamp.map(literal).map(|seen| {
                    match (id, offset.incrementing) {
                        (None, _) => format!("{ts} > {seen}"),
                        (Some(_), None) => format!("{ts} >= {seen}"),
                        (Some(id), Some(last)) => {
                            format!("(({ts} = {seen} AND {id} > {last}) OR {ts} > {seen})")
                        }
                    }
                }));
            }
        }
        let order = timestamp.into_iter().chain(id).collect::<Vec<_>>().join(",");
        if conditions.is_empty() {
            return format!(" ORDER BY {order} ASC");
        }
        format!(" WHERE {} ORDER BY {order} ASC", conditions.join(" AND "))
    }

    fn timestamp_expression(&self, style: Style<'_>) -> Option<String> {
        let expressions: Vec<String> = self
            .timestamps
            .iter()
            .map(|column| style.dialect.timestamp_expression(&style.name(column)))
            .collect();
        match expressions.len() {
            0 | 1 => expressions.into_iter().next(),
            _ => Some(format!("COALESCE({})", expressions.join(","))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Postgres;
    use crate::time::parse_moment;

    #[test]
    fn each_mode_has_its_sql() {
        let dialect = Postgres::for_tests();
        let style = Style { dialect: &dialect, quote: true, zone: Tz::UTC };
        let time = |text| parse_moment(text, Tz::UTC);
        let (seen, end) = (time("2024-01-01 00:00:00.5"), time("2024-01-02"));
        let (seen_text, end_text) = ("'2024-01-01 00:00:00.500000'", "'2024-01-02 00:00:00.000000'");
        let id = Criteria { incrementing: Some("id".into()), timestamps: vec![] };
        let ts = Criteria { incrementing: None, timestamps: vec!["u".into()] };
        let two = Criteria { incrementing: None, timestamps: vec!["u".into(), "c".into()] };
        let both = Criteria { incrementing: Some("id".into()), timestamps: vec!["u".into()] };
        let at = |incrementing, timestamp| Offset { incrementing, timestamp };
        for (criteria, offset, expected) in [
            (&Criteria::default(), at(None, None), String::new()),
            (&id, at(None, None), r#" ORDER BY "id" ASC"#.into()),
            (&id, at(Some(5), None), r#" WHERE "id" > 5 ORDER BY "id" ASC"#.into()),
            (&ts, at(None, None), format!(r#" WHERE "u" < {end_text} ORDER BY "u" ASC"#)),
            (
                &two,
                at(None, seen),
                format!(
                    r#" WHERE COALESCE("u","c") < {end_text} AND COALESCE("u","c") > {seen_text} ORDER BY COALESCE("u","c") ASC"#
                ),
            ),
            (
                &both,
                at(Some(5), seen),
                format!(
                    r#" WHERE "u" < {end_text} AND (("u" = {seen_text} AND "id" > 5) OR "u" > {seen_text}) ORDER BY "u","id" ASC"#
                ),
            ),
            (
                &both,
                at(None, seen),
                format!(r#" WHERE "u" < {end_text} AND "u" >= {seen_text} ORDER BY "u","id" ASC"#),
            ),
        ] {
            let end = if criteria.timestamps.is_empty() { None } else { end };
            assert_eq!(criteria.clauses(style, &offset, end), expected);
        }
    }
}

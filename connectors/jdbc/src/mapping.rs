//! From a result's columns to a Connect schema, and from its rows to structs.

use std::sync::Arc;

use aqueduct_connect_api::{Error, Result, Schema, SchemaRef, Struct, Type, Value};
use chrono_tz::Tz;

use crate::column::{Column, Row, SqlType};
use crate::convert::{Target, TimestampForm, to_value};

/// `numeric.mapping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumericMapping {
    #[default]
    None,
    PrecisionOnly,
    BestFit,
    BestFitEagerDouble,
}

/// What the settings say about types.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub numeric: NumericMapping,
    pub timestamps: TimestampForm,
    /// `db.timezone`: the zone of wall clocks.
    pub zone: Tz,
}

/// How the rows of one result become structs.
#[derive(Debug)]
pub struct Mapping {
    /// Where the rows come from, for messages.
    source: String,
    name: Option<String>,
    rules: Rules,
    columns: Vec<Column>,
    targets: Vec<Target>,
    schema: SchemaRef,
}

impl Mapping {
    /// A mapping of `columns`, each of which must be supported. `name` is the schema's.
    pub fn new(source: impl Into<String>, name: Option<&str>, columns: Vec<Column>, rules: Rules) -> Self {
        let targets: Vec<Target> = columns.iter().map(|c| target(&c.sql_type, rules)).collect();
        let schema = schema(name, &columns, &targets);
        Self { source: source.into(), name: name.map(str::to_owned), rules, columns, targets, schema }
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Whether a result with `columns` is mapped as this one.
    pub fn fits(&self, columns: &[Column]) -> bool {
        self.columns == columns
    }

    /// Converts a row. A decimal with more digits after the point than any before widens the schema, so that no digit is
    /// lost where the database declares no scale.
    ///
    /// # Errors
    /// `Error::Data` that names the column.
    pub fn row(&mut self, row: &Row) -> Result<Struct> {
        if row.len() != self.columns.len() {
            return Err(Error::connect(format!(
                "{}: the query gave {} columns where {} were asked for; the table was probably changed meanwhile",
                self.source,
                row.len(),
                self.columns.len()
            )));
        }
        let mut values = Vec::with_capacity(row.len());
        let mut widened = false;
        for ((column, target), cell) in self.columns.iter().zip(&mut self.targets).zip(row) {
            let value = to_value(cell, *target, self.rules.zone, column.nullable).map_err(|why| {
                Error::data(format!("{}, column {} ({}): {why}", self.source, column.name, column.type_name))
            })?;
            if let (Value::Decimal(decimal), Target::Decimal { scale, .. }) = (&value, target)
                && decimal.scale > *scale
            {
                *scale = decimal.scale;
                widened = true;
            }
            values.push(value);
        }
        if widened {
            self.schema = schema(self.name.as_deref(), &self.columns, &self.targets);
            for (value, target) in values.iter_mut().zip(&self.targets) {
                if let (Value::Decimal(decimal), Target::Decimal { scale, .. }) = (&*value, target)
                    && let Some(scaled) = decimal.with_scale(*scale)
                {
                    *value = Value::Decimal(scaled);
                }
            }
        }
        Ok(Struct::from_values(Arc::clone(&self.schema), values))
    }
}

fn target(sql_type: &SqlType, rules: Rules) -> Target {
    match *sql_type {
        SqlType::Boolean => Target::Boolean,
        SqlType::Int8 => Target::Int8,
        SqlType::Int16 => Target::Int16,
        SqlType::Int32 => Target::Int32,
        SqlType::Int64 => Target::Int64,
        SqlType::Float32 => Target::Float32,
        SqlType::Float64 => Target::Float64,
        SqlType::Numeric { precision, scale } => numeric(precision, scale, rules.numeric),
        SqlType::Decimal { precision, scale } => Target::Decimal { precision, scale: scale.unwrap_or(0) },
        SqlType::Text | SqlType::Unsupported => Target::Text,
        SqlType::Binary => Target::Binary,
        SqlType::Date => Target::Date,
        SqlType::Time => Target::Time,
        SqlType::Timestamp { .. } => Target::Timestamp(rules.timestamps),
    }
}

/// `numeric.mapping` at work. A number whose digits the database does not limit fits no integer.
fn numeric(precision: Option<u32>, scale: Option<i32>, mapping: NumericMapping) -> Target {
    let decimal = Target::Decimal { precision, scale: scale.unwrap_or(0) };
    let (Some(digits), Some(scale)) = (precision, scale) else {
        return match mapping {
            NumericMapping::BestFit | NumericMapping::BestFitEagerDouble => Target::Float64,
            NumericMapping::None | NumericMapping::PrecisionOnly => decimal,
        };
    };
    let fits_long = digits <= 18;
    let whole = (-84..1).contains(&scale);
    match mapping {
        NumericMapping::PrecisionOnly if fits_long && scale == 0 => integer(digits),
        NumericMapping::BestFit | NumericMapping::BestFitEagerDouble if fits_long && whole => integer(digits),
        NumericMapping::BestFit if fits_long && scale > 0 => Target::Float64,
        NumericMapping::BestFitEagerDouble if scale > 0 => Target::Float64,
        _ => decimal,
    }
}

fn integer(digits: u32) -> Target {
    match digits {
        10.. => Target::Int64,
        5..=9 => Target::Int32,
        3..=4 => Target::Int16,
        _ => Target::Int8,
    }
}

fn schema(name: Option<&str>, columns: &[Column], targets: &[Target]) -> SchemaRef {
    let mut builder = match name {
        Some(name) => Schema::struct_builder(name),
        None => Schema::builder(Type::Struct),
    };
    for (column, target) in columns.iter().zip(targets) {
        let field = target.schema();
        let field = if column.nullable { field.optional() } else { field };
        builder = builder.field(column.name.clone(), field.build());
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::Cell;
    use aqueduct_connect_api::Decimal;

    fn rules(numeric: NumericMapping) -> Rules {
        Rules { numeric, timestamps: TimestampForm::ConnectLogical, zone: Tz::UTC }
    }

    #[test]
    fn numbers_map_as_the_reference_says() {
        use NumericMapping::{BestFit, BestFitEagerDouble, None as Plain, PrecisionOnly};
        let decimal = |p, s| Target::Decimal { precision: Some(p), scale: s };
        for (mapping, precision, scale, expected) in [
            (Plain, 5, 0, decimal(5, 0)),
            (PrecisionOnly, 2, 0, Target::Int8),
            (PrecisionOnly, 4, 0, Target::Int16),
            (PrecisionOnly, 9, 0, Target::Int32),
            (PrecisionOnly, 18, 0, Target::Int64),
            (PrecisionOnly, 19, 0, decimal(19, 0)),
            (PrecisionOnly, 10, 2, decimal(10, 2)),
            (BestFit, 10, -2, Target::Int64),
            (BestFit, 10, 2, Target::Float64),
            (BestFit, 30, 2, decimal(30, 2)),
            (BestFitEagerDouble, 30, 2, Target::Float64),
            (BestFitEagerDouble, 30, 0, decimal(30, 0)),
        ] {
            let got = numeric(Some(precision), Some(scale), mapping);
            assert_eq!(got, expected, "{mapping:?} {precision} {scale}");
        }
    }

    #[test]
    fn decimals_without_a_scale_keep_every_digit() {
        let column = Column {
            name: "n".into(),
            sql_type: SqlType::Numeric { precision: None, scale: None },
            type_name: "NUMERIC".into(),
            nullable: true,
            auto_increment: false,
        };
        let mut mapping = Mapping::new("table t", Some("t"), vec![column], rules(NumericMapping::None));
        let mut decimals = Vec::new();
        for text in ["1", "2.50", "3"] {
            let row = mapping.row(&vec![Cell::Text(text.into())]).expect("fits");
            row.validate().expect("of its schema");
            decimals.push((
                row.values()[0].clone(),
                row.schema().fields()[0].schema.parameter("scale").map(str::to_owned),
            ));
        }
        let expected = [(1, 0), (250, 2), (300, 2)].map(|(unscaled, scale)| {
            (Value::Decimal(Decimal::new(unscaled, scale)), Some(scale.to_string()))
        });
        assert_eq!(decimals, expected);
    }
}

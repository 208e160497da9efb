//! Time by the clock on the wall: `tz(time, zone)` and `date_bin_wallclock(interval, time, origin)`.
//!
//! A time with a zone is the same instant as the one without, which is UTC; the zone only says how it is shown and where days begin.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::array::PrimitiveArray;
use arrow::array::timezone::Tz;
use arrow::array::types::IntervalMonthDayNano;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit, TimestampNanosecondType};
use datafusion::common::{ScalarValue, exec_err, internal_err, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TIMEZONE_WILDCARD,
    TypeSignature, Volatility,
};

use super::bins::{Bins, zone};

/// The name of the function that bins by the wall clock.
pub(super) const DATE_BIN_WALLCLOCK: &str = "date_bin_wallclock";

/// The name of the function that says a zone.
pub(super) const TZ: &str = "tz";

/// `tz`.
pub(super) fn tz() -> ScalarUDF {
    ScalarUDF::new_from_impl(ToZone {
        signature: Signature::new(TypeSignature::OneOf(to_zone_arguments()), Volatility::Immutable),
    })
}

/// `date_bin_wallclock`.
pub(super) fn date_bin_wallclock() -> ScalarUDF {
    ScalarUDF::new_from_impl(WallClockBin { signature: bin_signature() })
}

/// What the functions take that bin by the wall clock: an interval, a time, and perhaps an origin without a zone.
pub(super) fn bin_signature() -> Signature {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let time = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
    let mut forms = Vec::new();
    for zone in [None, Some(TIMEZONE_WILDCARD)] {
        forms.push(TypeSignature::Exact(vec![interval.clone(), time(zone), time(None)]));
        forms.push(TypeSignature::Exact(vec![interval.clone(), time(zone)]));
    }
    Signature::one_of(forms, Volatility::Immutable)
}

fn to_zone_arguments() -> Vec<TypeSignature> {
    let time = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
    let mut forms = Vec::new();
    for from in [None, Some(TIMEZONE_WILDCARD)] {
        forms.push(TypeSignature::Exact(vec![time(from), DataType::Utf8]));
        forms.push(TypeSignature::Exact(vec![time(from)]));
    }
    forms
}

/// The zone of a type of times.
pub(super) fn zone_of(data_type: &DataType) -> DataFusionResult<Option<Tz>> {
    match data_type {
        DataType::Timestamp(_, Some(name)) => zone(name).map(Some),
        _ => Ok(None),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToZone {
    signature: Signature,
}

impl ScalarUDFImpl for ToZone {
    fn name(&self) -> &str {
        TZ
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        internal_err!("the type of tz() depends on its second argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let name = match args.scalar_arguments {
            [_] => "UTC",
            [_, Some(argument)] => match argument.try_as_str() {
                Some(Some(name)) => name,
                _ => return plan_err!("tz() needs the name of a zone, not {argument}"),
            },
            _ => return plan_err!("the zone of tz() has to be written out, as in tz(time, 'Europe/Berlin')"),
        };
        zone(name)?;
        let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some(name.into()));
        Ok(Arc::new(Field::new(self.name(), zoned, args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let DataType::Timestamp(_, zone) = args.return_field.data_type() else {
            return internal_err!("tz() makes {}", args.return_field.data_type());
        };
        // The instant stays; a cast would read a time without a zone as one of the zone.
        Ok(match &args.args[0] {
            ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(time, _)) => {
                ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(*time, zone.clone()))
            }
            ColumnarValue::Scalar(other) => return internal_err!("tz() of {other}"),
            ColumnarValue::Array(times) => {
                let times = times.as_primitive::<TimestampNanosecondType>().clone();
                ColumnarValue::Array(Arc::new(times.with_timezone_opt(zone.clone())))
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WallClockBin {
    signature: Signature,
}

impl ScalarUDFImpl for WallClockBin {
    fn name(&self) -> &str {
        DATE_BIN_WALLCLOCK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(arguments[1].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let nothing = || ScalarValue::try_from(args.args[1].data_type()).map(ColumnarValue::Scalar);
        let Some(interval) = interval(&args.args[0])? else { return nothing() };
        let origin = match args.args.get(2) {
            None => 0,
            Some(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(origin), _))) => *origin,
            Some(ColumnarValue::Scalar(value)) if value.is_null() => return nothing(),
            Some(_) => return exec_err!("the origin of {DATE_BIN_WALLCLOCK} has to be a constant"),
        };
        let bins = Bins::new(interval, origin, zone_of(&args.args[1].data_type())?)?;
        Ok(match &args.args[1] {
            ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(time, zone)) => {
                let bin = time.and_then(|time| bins.start(time));
                ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(bin, zone.clone()))
            }
            ColumnarValue::Scalar(other) => return internal_err!("{DATE_BIN_WALLCLOCK} of {other}"),
            ColumnarValue::Array(times) => {
                let times = times.as_primitive::<TimestampNanosecondType>();
                let mut start = bins.starts();
                let binned = times.iter().map(|time| time.and_then(&mut start));
                let binned: PrimitiveArray<TimestampNanosecondType> = binned.collect();
                ColumnarValue::Array(Arc::new(binned.with_timezone_opt(times.timezone())))
            }
        })
    }
}

/// The interval of a bin; `None` for a null.
fn interval(argument: &ColumnarValue) -> DataFusionResult<Option<IntervalMonthDayNano>> {
    match argument {
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(interval)) => Ok(*interval),
        _ => exec_err!("the interval of {DATE_BIN_WALLCLOCK} has to be a constant"),
    }
}

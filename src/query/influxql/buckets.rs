//! Where the bucket of an instant begins, as a function of DataFusion.

use std::sync::Arc;

use arrow::array::{AsArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::window::Window;

const TIME: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

/// The function's name where no zone is named: a bucket then begins no later than what is in it, and later ones hold later times.
pub(in crate::query) const BUCKET: &str = "influxql_bucket";
const BUCKET_IN_ZONE: &str = "influxql_bucket_in_zone";

/// The begin of the bucket of a time.
pub(super) fn of(window: Window) -> ScalarUDF {
    let signature = Signature::new(TypeSignature::Exact(vec![TIME]), Volatility::Immutable);
    ScalarUDF::new_from_impl(BucketOf { window, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BucketOf {
    window: Window,
    signature: Signature,
}

impl ScalarUDFImpl for BucketOf {
    fn name(&self) -> &str {
        if self.window.zone.is_none() { BUCKET } else { BUCKET_IN_ZONE }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(TIME)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let times = times.as_primitive::<TimestampNanosecondType>();
        let mut starts = self.window.starts();
        let starts = times.values().iter().map(|time| starts(*time));
        Ok(ColumnarValue::Array(Arc::new(TimestampNanosecondArray::from_iter_values(starts))))
    }
}

//! Values for the parameters of a statement, as they travel in its handle: rows of Arrow, one for each execution.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use super::error::FlightError;
use crate::error::Result;
use crate::query::{Parameter, PlannedParameter};

/// Most bytes of values that a query takes. They travel in its handle and its ticket, which clients send back and forth.
const BOUND_BYTES_MAX: usize = 1 << 20;

/// The values of one execution, by name.
pub(super) type Row = Vec<(String, Parameter)>;

/// Which column of a batch has the values of which parameter.
#[derive(Debug)]
pub(super) struct Places {
    /// Name and position.
    columns: Vec<(String, usize)>,
}

impl Places {
    /// By name, if every parameter has a column of its name; else by position.
    ///
    /// # Errors
    /// `ParameterCount` if there are more or fewer columns than parameters.
    pub(super) fn new(parameters: &[PlannedParameter], schema: &Schema) -> Result<Self, FlightError> {
        if parameters.len() != schema.fields().len() {
            return Err(FlightError::ParameterCount {
                names: names(parameters),
                count: parameters.len(),
                given: schema.fields().len(),
            });
        }
        let by_name = |parameter: &PlannedParameter| {
            let is_it = |name: &String| name.trim_start_matches(['$', ':', '@']) == parameter.name;
            schema.fields().iter().position(|field| is_it(field.name()))
        };
        let named: Option<Vec<usize>> = parameters.iter().map(by_name).collect();
        let places = named.unwrap_or_else(|| (0..parameters.len()).collect());
        Ok(Self { columns: parameters.iter().map(|parameter| parameter.name.clone()).zip(places).collect() })
    }

    /// The values of each row.
    pub(super) fn rows(&self, batch: &RecordBatch) -> impl Iterator<Item = Row> {
        (0..batch.num_rows()).map(|row| {
            let value = |place: usize| Parameter::Arrow(batch.column(place).slice(row, 1));
            self.columns.iter().map(|(name, place)| (name.clone(), value(*place))).collect()
        })
    }
}

/// The parameters as a text names them: `$1, $2`.
pub(super) fn names(parameters: &[PlannedParameter]) -> String {
    let names: Vec<String> = parameters.iter().map(|parameter| format!("${}", parameter.name)).collect();
    names.join(", ")
}

/// Rows as bytes for a handle.
///
/// # Errors
/// `ValuesTooLarge`.
pub(super) fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(FlightError::Encode)?;
    for batch in batches {
        writer.write(batch).map_err(FlightError::Encode)?;
        if writer.get_ref().len() > BOUND_BYTES_MAX {
            return Err(FlightError::ValuesTooLarge { bytes_max: BOUND_BYTES_MAX }.into());
        }
    }
    Ok(writer.into_inner().map_err(FlightError::Encode)?.into())
}

/// The rows that [`encode`] made; none if there are no bytes.
///
/// # Errors
/// `Encode`, a defect: nobody else can make them.
pub(super) fn decode(bytes: &Bytes) -> Result<Vec<RecordBatch>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let reader = StreamReader::try_new(bytes.as_ref(), None).map_err(FlightError::Encode)?;
    Ok(reader.collect::<Result<_, _>>().map_err(FlightError::Encode)?)
}

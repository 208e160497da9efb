//! Queries: what one will answer, and its rows. And statements that delete rows.
//!
//! A DELETE comes as an update, or as a query from drivers that don't tell one from the other. As a query it runs in
//! `GetFlightInfo`, which the protocol calls executing: drivers fetch in the background and give that up when a cursor is closed, so
//! that a deletion at the fetch would now and then not happen. Its ticket says that it is done, and can be fetched any number of times.
//!
//! A query is planned when it is described, so that what is wrong with it is said there, and once more when its
//! ticket is fetched. Both plans announce the same columns as the rows have; drivers compare them.
//!
//! Not here: prepared statements, which end in the same two steps (`prepared`).

use arrow::datatypes::SchemaRef;
use arrow_flight::PutResult;
use arrow_flight::sql::{CommandStatementQuery, CommandStatementUpdate, DoPutUpdateResult};
use futures::{StreamExt, TryFutureExt, stream};
use prost::Message;
use serde::Deserialize;
use serde_json::Value;

use super::call::Call;
use super::error::FlightError;
use super::stream::{Messages, encode};
use super::tickets::{Statement, Work};
use super::{Description, FlightService};
use crate::error::{Error, Result};
use crate::model::DatabaseName;
use crate::query::{Language, Parameter, PlannedDeletion, PlannedStatement, Query};
use crate::server::parameters;

impl Statement {
    fn into_query(self, parameters: Vec<(String, Parameter)>) -> Query {
        Query { database: self.database, language: self.language, text: self.text, parameters }
    }
}

impl FlightService {
    /// What `CommandStatementQuery` will answer.
    ///
    /// # Errors
    /// Whatever is wrong with the text; `NotFound` if there is no such database.
    pub(super) async fn describe_query(&self, command: CommandStatementQuery, call: &Call) -> Result<Description> {
        refuse_transaction(command.transaction_id.as_deref())?;
        let database = call.database(&self.engine)?;
        self.describe_statement(Statement { database, language: call.language, text: command.query }).await
    }

    /// What a query will answer.
    ///
    /// # Errors
    /// Whatever is wrong with the text; `Invalid` if it has parameters, for which there are no values here.
    pub(super) async fn describe_statement(&self, statement: Statement) -> Result<Description> {
        let described = match self.plan_without_parameters(statement.clone()).await? {
            PlannedStatement::Query(plan) => Description {
                schema: SchemaRef::clone(plan.schema()),
                ordered: plan.ordered(),
                work: Work::Statement(statement),
                deletion: None,
            },
            PlannedStatement::Deletion(deletion) => Description {
                schema: PlannedDeletion::answer_schema(),
                ordered: false,
                work: Work::Done,
                deletion: Some(deletion),
            },
        };
        Ok(described)
    }

    async fn plan_without_parameters(&self, statement: Statement) -> Result<PlannedStatement> {
        let plan = self.queries.plan_statement(statement.into_query(Vec::new())).await?;
        if !plan.parameters().is_empty() {
            let names: Vec<String> = plan.parameters().iter().map(|parameter| format!("${}", parameter.name)).collect();
            return Err(FlightError::Parameters(names.join(", ")).into());
        }
        Ok(plan)
    }

    /// Runs `CommandStatementUpdate`.
    ///
    /// # Errors
    /// Whatever is wrong with the text; `Invalid` if it is a query; and whatever keeps it from being done.
    pub(super) async fn update(&self, command: CommandStatementUpdate, call: &Call) -> Result<PutResult> {
        refuse_transaction(command.transaction_id.as_deref())?;
        let database = call.database(&self.engine)?;
        self.update_by(Statement { database, language: call.language, text: command.query }).await
    }

    /// Runs a statement that is no query. How many rows it changed is not known, which the protocol calls -1.
    pub(super) async fn update_by(&self, statement: Statement) -> Result<PutResult> {
        match self.plan_without_parameters(statement).await? {
            PlannedStatement::Query(_) => Err(FlightError::QueryAsUpdate.into()),
            PlannedStatement::Deletion(deletion) => {
                deletion.run().await?;
                let result = DoPutUpdateResult { record_count: -1 };
                Ok(PutResult { app_metadata: result.encode_to_vec().into() })
            }
        }
    }

    /// The rows of a query. It starts when the client has the schema; dropping the messages cancels it.
    pub(super) async fn statement_rows(&self, statement: Statement, call: &Call) -> Result<Messages> {
        self.query_rows(statement.into_query(Vec::new()), call).await
    }

    /// The rows that a JSON ticket asks for: how the client libraries of InfluxDB 3 query.
    pub(super) async fn json_ticket_rows(&self, ticket: &[u8], call: &Call) -> Result<Messages> {
        let ticket = JsonTicket::parse(ticket)?;
        let database = match &ticket.database {
            Some(name) => DatabaseName::new(name).map_err(|error| Error::invalid(error.to_string()))?,
            None => call.database(&self.engine)?,
        };
        let parameters = parameters::from_json(ticket.params.unwrap_or_default())?;
        let statement = Statement { database, language: ticket.query_type.into(), text: ticket.sql_query };
        self.query_rows(statement.into_query(parameters), call).await
    }

    async fn query_rows(&self, query: Query, call: &Call) -> Result<Messages> {
        let plan = self.queries.plan(query).await?;
        let schema = SchemaRef::clone(plan.schema());
        // Started inside the stream, so that the schema leaves at once and keep-alives cover the start too.
        let batches = plan.run().try_flatten_stream().boxed();
        Ok(encode(schema, batches, call.deadline))
    }
}

/// The answer of a DELETE that was done before its ticket was handed out.
pub(super) fn deletion_rows(call: &Call) -> Result<Messages> {
    let answer = PlannedDeletion::answer()?;
    Ok(encode(answer.schema(), stream::iter([Ok(answer)]).boxed(), call.deadline))
}

/// There are no transactions; a statement that believes to be in one is refused rather than run outside of it.
pub(super) fn refuse_transaction(transaction: Option<&[u8]>) -> Result<()> {
    match transaction {
        Some(id) if !id.is_empty() => Err(FlightError::Unsupported("transactions are not supported").into()),
        _ => Ok(()),
    }
}

/// What the client libraries of InfluxDB 3 put into a ticket.
#[derive(Debug, Deserialize)]
struct JsonTicket {
    #[serde(alias = "namespace_name", alias = "bucket", alias = "bucket-name")]
    database: Option<String>,
    sql_query: String,
    #[serde(default)]
    query_type: QueryType,
    params: Option<serde_json::Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum QueryType {
    #[default]
    Sql,
    InfluxQl,
}

impl From<QueryType> for Language {
    fn from(query_type: QueryType) -> Self {
        match query_type {
            QueryType::Sql => Self::Sql,
            QueryType::InfluxQl => Self::InfluxQl,
        }
    }
}

impl JsonTicket {
    fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(FlightError::ForeignTicket.into());
        }
        Ok(serde_json::from_slice(bytes).map_err(FlightError::JsonTicket)?)
    }
}

//! Statements: what one will answer, its rows, and what it changes.
//!
//! What changes something comes as an update, or as a query from drivers that don't tell one from the other. As a query it runs in
//! `GetFlightInfo`, which the protocol calls executing: drivers fetch in the background and give that up when a cursor is closed, so
//! that a change at the fetch would now and then not happen. Its ticket says that it is done, and can be fetched any number of times.
//!
//! A query is planned when it is described, so that what is wrong with it is said there, and once more when its
//! ticket is fetched. Both plans announce the same columns as the rows have; drivers compare them.
//!
//! Not here: prepared statements, which end in the same two steps (`prepared`).

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::PutResult;
use arrow_flight::sql::{
    CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate, DoPutUpdateResult, SubstraitPlan,
};
use bytes::Bytes;
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use prost::Message;
use serde::Deserialize;
use serde_json::Value;

use super::call::Call;
use super::error::FlightError;
use super::stream::{Messages, encode};
use super::tickets::{Statement, Work};
use super::values::{self, Places, Row};
use super::{Described, Description, FlightService};
use crate::error::{Error, Result};
use crate::model::{Access, DatabaseName};
use crate::query::{Language, PlannedChange, PlannedQuery, PlannedStatement, Query, Way};
use crate::server::parameters;

/// Executions of one update that are planned together; the rows of INSERTs among them are one write.
const EXECUTIONS_AT_ONCE: usize = 500;

impl FlightService {
    /// What `CommandStatementQuery` will answer.
    ///
    /// # Errors
    /// Whatever is wrong with the text; `NotFound` if there is no such database.
    pub(super) async fn describe_query(&self, command: CommandStatementQuery, call: &Call) -> Result<Description> {
        refuse_transaction(command.transaction_id.as_deref())?;
        let database = call.database(&self.engine)?;
        self.describe_statement(call.statement(database, command.query), call).await
    }

    /// What `CommandStatementSubstraitPlan` will answer.
    ///
    /// # Errors
    /// Whatever is wrong with the plan; `NotFound` if there is no such database.
    pub(super) async fn describe_substrait(
        &self,
        command: CommandStatementSubstraitPlan,
        call: &Call,
    ) -> Result<Description> {
        let statement = self.substrait(command.plan, command.transaction_id.as_deref(), call)?;
        self.describe_statement(statement, call).await
    }

    /// The statement that is a plan.
    ///
    /// # Errors
    /// `Invalid` if there is none; `NotFound` if there is no such database.
    pub(super) fn substrait(
        &self,
        plan: Option<SubstraitPlan>,
        transaction: Option<&[u8]>,
        call: &Call,
    ) -> Result<Statement> {
        refuse_transaction(transaction)?;
        // Which release it is of is in the plan itself too, and decides nothing.
        let plan = plan.map(|plan| plan.plan).filter(|plan| !plan.is_empty()).ok_or(FlightError::NoPlan)?;
        Ok(call.substrait(call.database(&self.engine)?, plan))
    }

    /// What a statement will answer.
    ///
    /// # Errors
    /// Whatever is wrong with the text or the values.
    pub(super) async fn describe_statement(&self, statement: Statement, call: &Call) -> Result<Description> {
        let values = values::decode(&statement.values)?;
        let planned = self.plan(statement.clone(), Vec::new(), call).await?;
        let mut first_row = Vec::new();
        if let Some(batch) = values.iter().find(|batch| batch.num_rows() > 0) {
            first_row = Places::new(planned.parameters(), &batch.schema())?.rows(batch).next().unwrap_or_default();
        }
        let unbound =
            (first_row.is_empty() && !planned.parameters().is_empty()).then(|| values::names(planned.parameters()));
        let planned = match first_row.is_empty() {
            true => planned,
            false => self.plan(statement.clone(), first_row, call).await?,
        };
        Ok(match planned {
            PlannedStatement::Query(plan) => Description {
                schema: SchemaRef::clone(plan.schema()),
                ordered: plan.ordered() && values.iter().map(RecordBatch::num_rows).sum::<usize>() <= 1,
                work: Described::Ticket(Work::Statement(statement)),
                unbound,
            },
            PlannedStatement::Change(_) => Description {
                schema: PlannedChange::answer_schema(),
                ordered: false,
                work: Described::Change(statement),
                unbound,
            },
        })
    }

    pub(super) async fn plan(&self, statement: Statement, parameters: Row, call: &Call) -> Result<PlannedStatement> {
        let Statement { database, language, text, plan, dictionaries, .. } = statement;
        let (access, origin) = (access(&database, call)?, call.origin(Way::FlightSql));
        let query = Query { database, language, text, plan, parameters, access, origin };
        let planned = self.queries.plan_statement(query).await?;
        Ok(match planned {
            PlannedStatement::Query(query) => PlannedStatement::Query(Box::new(query.with_dictionaries(dictionaries))),
            change => change,
        })
    }

    /// Plans a statement that reads, to be answered in the form that was announced.
    async fn plan_query(&self, query: Query, dictionaries: bool) -> Result<PlannedQuery> {
        Ok(self.queries.plan(query).await?.with_dictionaries(dictionaries))
    }

    /// Runs `CommandStatementUpdate`.
    ///
    /// # Errors
    /// Whatever is wrong with the text; `Invalid` if it is a query; and whatever keeps it from being done.
    pub(super) async fn update(&self, command: CommandStatementUpdate, call: &Call) -> Result<PutResult> {
        refuse_transaction(command.transaction_id.as_deref())?;
        let database = call.database(&self.engine)?;
        let statement = call.statement(database, command.query);
        self.change(statement, call).await.map(update_result)
    }

    /// Runs `CommandStatementSubstraitPlan` as an update, which a plan never is: it reads.
    ///
    /// # Errors
    /// `Invalid`; whatever is wrong with the plan is said first.
    pub(super) async fn update_substrait(
        &self,
        command: CommandStatementSubstraitPlan,
        call: &Call,
    ) -> Result<PutResult> {
        let statement = self.substrait(command.plan, command.transaction_id.as_deref(), call)?;
        self.change(statement, call).await.map(update_result)
    }

    /// Runs a statement that is no query, once for each row of its values. Returns how many rows it changed, if that was counted.
    pub(super) async fn change(&self, statement: Statement, call: &Call) -> Result<Option<u64>> {
        let values = statement.values.clone();
        let mut execution = Execution::new(self, statement, call).await?;
        execution.bound(&values).await?;
        Ok(execution.count())
    }

    /// The rows of a query, one execution after the other. It starts when the client has the schema; dropping the messages
    /// cancels it.
    pub(super) async fn statement_rows(&self, statement: Statement, call: &Call) -> Result<Messages> {
        let access = access(&statement.database, call)?;
        let (values, query) = (values::decode(&statement.values)?, |parameters| Query {
            database: statement.database.clone(),
            language: statement.language,
            text: statement.text.clone(),
            plan: statement.plan.clone(),
            parameters,
            access: access.clone(),
            origin: call.origin(Way::FlightSql),
        });
        let Some(first) = values.iter().find(|batch| batch.num_rows() > 0) else {
            return self.query_rows(query(Vec::new()), statement.dictionaries, call).await;
        };
        let places = Places::new(self.plan(statement.clone(), Vec::new(), call).await?.parameters(), &first.schema())?;
        let mut executions = values.iter().flat_map(|batch| places.rows(batch)).map(query);
        let first = executions.next().ok_or_else(|| Error::internal("no execution"))?;
        let first = self.plan_query(first, statement.dictionaries).await?;
        let schema = SchemaRef::clone(first.schema());
        let first = first.run().try_flatten_stream();
        let (queries, rest) = (Arc::clone(&self.queries), executions.collect::<Vec<Query>>());
        let dictionaries = statement.dictionaries;
        let rest = stream::iter(rest).then(move |query| {
            let queries = Arc::clone(&queries);
            async move { queries.begin(query, dictionaries).await?.rows().await }
        });
        Ok(encode(schema, first.chain(rest.try_flatten()).boxed(), call.delivery()))
    }

    /// The rows that a JSON ticket asks for: how the client libraries of InfluxDB 3 query.
    pub(super) async fn json_ticket_rows(&self, ticket: &[u8], call: &Call) -> Result<Messages> {
        let ticket = JsonTicket::parse(ticket)?;
        let database = match &ticket.database {
            Some(name) => DatabaseName::new(name).map_err(|error| Error::invalid(error.to_string()))?,
            None => call.database(&self.engine)?,
        };
        let parameters = parameters::from_json(ticket.params.unwrap_or_default())?;
        let access = access(&database, call)?;
        let language = Language::from(ticket.query_type);
        let origin = call.origin(if language == Language::Sql { Way::Sql } else { Way::InfluxQl });
        let (text, plan) = (ticket.sql_query, Bytes::new());
        let query = Query { database, language, text, plan, parameters, access, origin };
        self.query_rows(query, call.dictionaries, call).await
    }

    async fn query_rows(&self, query: Query, dictionaries: bool, call: &Call) -> Result<Messages> {
        let begun = self.queries.begin(query, dictionaries).await?;
        let schema = SchemaRef::clone(begun.schema());
        // Waited for inside the stream, so that the schema leaves at once and keep-alives cover the start too.
        let batches = begun.rows().try_flatten_stream().boxed();
        Ok(encode(schema, batches, call.delivery()))
    }
}

/// The executions of one statement that is no query.
pub(super) struct Execution<'a> {
    service: &'a FlightService,
    call: &'a Call,
    statement: Statement,
    /// Without values.
    change: PlannedChange,
    count: Option<u64>,
}

impl<'a> Execution<'a> {
    /// Looks at the statement; runs nothing yet.
    ///
    /// # Errors
    /// Whatever is wrong with the text; `Invalid` if it is a query.
    pub(super) async fn new(service: &'a FlightService, statement: Statement, call: &'a Call) -> Result<Self> {
        match service.plan(statement.clone(), Vec::new(), call).await? {
            PlannedStatement::Query(_) => Err(FlightError::QueryAsUpdate.into()),
            PlannedStatement::Change(change) => Ok(Self { service, call, statement, change, count: Some(0) }),
        }
    }

    /// Runs it with the values of each row in turn.
    pub(super) async fn rows(&mut self, values: &RecordBatch) -> Result<()> {
        let places = Places::new(self.change.parameters(), &values.schema())?;
        let mut rows = places.rows(values).peekable();
        while rows.peek().is_some() {
            let changes = self.change.executions(rows.by_ref().take(EXECUTIONS_AT_ONCE).collect()).await?;
            self.add(PlannedChange::run_all(changes).await?);
        }
        Ok(())
    }

    /// Runs it with bound values, or once if it has no parameters.
    pub(super) async fn bound(&mut self, values: &Bytes) -> Result<()> {
        if self.change.parameters().is_empty() {
            return self.once(Vec::new()).await;
        }
        if values.is_empty() {
            return Err(FlightError::Unbound(values::names(self.change.parameters())).into());
        }
        for batch in values::decode(values)? {
            self.rows(&batch).await?;
        }
        Ok(())
    }

    /// How many rows were changed; `None` if an execution didn't count.
    pub(super) fn count(&self) -> Option<u64> {
        self.count
    }

    async fn once(&mut self, row: Row) -> Result<()> {
        if let PlannedStatement::Change(change) = self.service.plan(self.statement.clone(), row, self.call).await? {
            self.add(change.run().await?);
        }
        Ok(())
    }

    fn add(&mut self, count: Option<u64>) {
        self.count = self.count.zip(count).map(|(sum, count)| sum.saturating_add(count));
    }
}

/// What the caller's statements may do in a database.
///
/// # Errors
/// `Forbidden` if the database is none of theirs.
pub(super) fn access(database: &DatabaseName, call: &Call) -> Result<Access> {
    call.principal.require_sight(database)?;
    Ok(call.principal.rights().access(database))
}

/// The answer to an update; what nobody counted is -1 in the protocol.
pub(super) fn update_result(count: Option<u64>) -> PutResult {
    let record_count = count.and_then(|count| i64::try_from(count).ok()).unwrap_or(-1);
    PutResult { app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into() }
}

/// The answer of a statement that was done before its ticket was handed out.
pub(super) fn change_rows(count: Option<u64>, call: &Call) -> Result<Messages> {
    let answer = PlannedChange::answer(count)?;
    Ok(encode(answer.schema(), stream::iter([Ok(answer)]).boxed(), call.delivery()))
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

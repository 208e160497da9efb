//! `DoAction`: prepared statements, what one can do to a result by its ticket, and caches.
//!
//! Not here: sessions (`sessions`).

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedSubstraitPlanRequest, Any, Command, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest, Ticket,
};
use bytes::Bytes;
use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::call::Call;
use super::error::FlightError;
use super::tickets::Work;
use super::{FlightService, command};
use crate::error::Result;
use crate::model::CacheKind;
use crate::server::caches::{NamedCache, NewDistinctCache, NewLastCache};

/// Names the database in what is said of caches, as over HTTP.
const DATABASE: &str = "db";

/// The actions that are served.
pub(super) const ACTIONS: [(&str, &str); 13] = [
    ("CreatePreparedStatement", "ActionCreatePreparedStatementRequest -> ActionCreatePreparedStatementResult"),
    ("CreatePreparedSubstraitPlan", "ActionCreatePreparedSubstraitPlanRequest -> ActionCreatePreparedStatementResult"),
    ("ClosePreparedStatement", "ActionClosePreparedStatementRequest -> nothing"),
    ("CancelFlightInfo", "CancelFlightInfoRequest -> CancelFlightInfoResult"),
    ("CancelQuery", "ActionCancelQueryRequest -> ActionCancelQueryResult"),
    ("RenewFlightEndpoint", "RenewFlightEndpointRequest -> FlightEndpoint"),
    ("SetSessionOptions", "SetSessionOptionsRequest -> SetSessionOptionsResult"),
    ("GetSessionOptions", "GetSessionOptionsRequest -> GetSessionOptionsResult"),
    ("CloseSession", "CloseSessionRequest -> CloseSessionResult"),
    ("CreateLastCache", "JSON as for POST /api/v3/configure/last_cache; \"db\" if not that of the call -> JSON"),
    (
        "CreateDistinctCache",
        "JSON as for POST /api/v3/configure/distinct_cache; \"db\" if not that of the call -> JSON",
    ),
    ("DeleteLastCache", "JSON with \"table\" and \"name\"; \"db\" if not that of the call -> nothing"),
    ("DeleteDistinctCache", "JSON with \"table\" and \"name\"; \"db\" if not that of the call -> nothing"),
];

impl FlightService {
    /// The result of an action that is not about sessions; `None` if it has none.
    ///
    /// # Errors
    /// `Unsupported` for an action that is not served, `Invalid` for a body that can't be read, and what the action says.
    pub(super) async fn act(&self, action: Action, call: &Call) -> Result<Option<Bytes>> {
        match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let request: ActionCreatePreparedStatementRequest = unpack(&action.body)?;
                self.create_prepared(request, call).await.map(Some)
            }
            "CreatePreparedSubstraitPlan" => {
                let request: ActionCreatePreparedSubstraitPlanRequest = unpack(&action.body)?;
                self.create_prepared_substrait(request, call).await.map(Some)
            }
            "ClosePreparedStatement" => self.close_prepared(&action.body, call).await.map(|()| None),
            "CancelFlightInfo" => {
                let request = CancelFlightInfoRequest::decode(action.body).map_err(FlightError::Undecodable)?;
                let status = self.cancel(&request.info.unwrap_or_default(), call)?;
                Ok(Some(CancelFlightInfoResult { status: status.into() }.encode_to_vec().into()))
            }
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = unpack(&action.body)?;
                let info = FlightInfo::decode(request.info).map_err(FlightError::Undecodable)?;
                // The older message has an enum of its own, with the same numbers.
                let result = self.cancel(&info, call)?;
                Ok(Some(ActionCancelQueryResult { result: result.into() }.as_any().encode_to_vec().into()))
            }
            "RenewFlightEndpoint" => {
                let request = RenewFlightEndpointRequest::decode(action.body).map_err(FlightError::Undecodable)?;
                Ok(Some(self.renew(&request.endpoint.unwrap_or_default(), call)?.encode_to_vec().into()))
            }
            "CreateLastCache" => {
                let request: NewLastCache = self.cache_request(&action.body, call)?;
                Ok(Some(request.create(&self.engine, &call.principal).await?.to_string().into()))
            }
            "CreateDistinctCache" => {
                let request: NewDistinctCache = self.cache_request(&action.body, call)?;
                Ok(Some(request.create(&self.engine, &call.principal).await?.to_string().into()))
            }
            "DeleteLastCache" => self.delete_cache(CacheKind::Last, &action.body, call).await.map(|()| None),
            "DeleteDistinctCache" => self.delete_cache(CacheKind::Distinct, &action.body, call).await.map(|()| None),
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                Err(FlightError::Unsupported("transactions are not supported").into())
            }
            _ => Err(FlightError::UnknownAction(action.r#type).into()),
        }
    }

    async fn delete_cache(&self, kind: CacheKind, body: &[u8], call: &Call) -> Result<()> {
        let named: NamedCache = self.cache_request(body, call)?;
        named.delete(kind, &self.engine, &call.principal).await
    }

    /// What a body says of a cache; of the call's database, unless it names one itself.
    fn cache_request<T: DeserializeOwned>(&self, body: &[u8], call: &Call) -> Result<T> {
        let mut request: Map<String, Value> = serde_json::from_slice(body).map_err(FlightError::JsonAction)?;
        if !request.contains_key(DATABASE) {
            let database = call.database(&self.engine)?;
            request.insert(DATABASE.to_owned(), database.as_str().into());
        }
        Ok(serde_json::from_value(Value::Object(request)).map_err(FlightError::JsonAction)?)
    }

    /// Ends the results that are being sent for a description, if there are some.
    fn cancel(&self, info: &FlightInfo, call: &Call) -> Result<CancelStatus> {
        let mut cancelled = false;
        for endpoint in &info.endpoint {
            let sealed = sealed(endpoint)?;
            self.seal.open(&sealed, &call.principal, self.clock.as_ref())?;
            cancelled |= self.running.cancel(&sealed);
        }
        match cancelled {
            _ if info.endpoint.is_empty() => Err(FlightError::ForgedTicket.into()),
            true => Ok(CancelStatus::Cancelled),
            false => Ok(CancelStatus::NotCancellable),
        }
    }

    /// The endpoint with a ticket for the same work that is good for longer.
    fn renew(&self, endpoint: &FlightEndpoint, call: &Call) -> Result<FlightEndpoint> {
        let work = self.seal.open(&sealed(endpoint)?, &call.principal, self.clock.as_ref())?;
        if let Work::Part(part) = &work {
            self.hold_longer(*part)?;
        }
        let renewed = self.endpoint(work, call);
        Ok(FlightEndpoint { app_metadata: endpoint.app_metadata.clone(), ..renewed })
    }
}

/// What is sealed in an endpoint's ticket.
fn sealed(endpoint: &FlightEndpoint) -> Result<Bytes> {
    let Some(Ticket { ticket }) = &endpoint.ticket else { return Err(FlightError::ForgedTicket.into()) };
    match command(ticket)? {
        Command::TicketStatementQuery(sealed) => Ok(sealed.statement_handle),
        _ => Err(FlightError::ForgedTicket.into()),
    }
}

/// The message inside the `google.protobuf.Any` of an action.
fn unpack<M: ProstMessageExt>(body: &Bytes) -> Result<M> {
    let any = Any::decode(body.clone()).map_err(FlightError::Undecodable)?;
    let message = any.unpack().map_err(FlightError::UndecodableCommand)?;
    Ok(message.ok_or_else(|| FlightError::UnknownCommand(any.type_url))?)
}

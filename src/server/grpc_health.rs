//! gRPC's own question for health, `grpc.health.v1`, which load balancers and Kubernetes ask. It says what `/health` says, and that the
//! server no longer serves as soon as it is told to stop, while what it has begun comes to its end.
//!
//! There is no reflection: it would describe Flight's public protocol, which every client of it has, and needs a compiler to be made.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::auth::Principal;
use super::status;
use crate::engine::Engine;
use crate::model::Facility;

/// The names that can be asked for: the whole server, and what of it there is.
const SERVICES: [&str; 2] = ["", "arrow.flight.protocol.FlightService"];

/// How often a watched server looks whether it still lives.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Answers `Check` and `Watch`.
#[derive(Debug, Clone)]
pub(super) struct GrpcHealth {
    engine: Arc<Engine>,
    draining: CancellationToken,
}

impl GrpcHealth {
    /// As healthy as `engine`, until `draining`.
    pub(super) fn new(engine: Arc<Engine>, draining: CancellationToken) -> Self {
        Self { engine, draining }
    }

    /// As tonic serves it.
    pub(super) fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    fn status(&self) -> ServingStatus {
        match self.engine.check_health() {
            Ok(()) if !self.draining.is_cancelled() => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        }
    }

    /// The next status that is another one; nothing after the last, which comes when the server stops.
    async fn change(self, known: Option<ServingStatus>) -> Option<ServingStatus> {
        loop {
            let now = self.status();
            match known {
                Some(_) if self.draining.is_cancelled() && known == Some(now) => return None,
                Some(known) if known == now => {
                    tokio::select! {
                        () = tokio::time::sleep(LOOKS_EVERY) => {}
                        () = self.draining.cancelled() => {}
                    }
                }
                _ => return Some(now),
            }
        }
    }
}

fn may_ask(request: &Request<HealthCheckRequest>) -> Result<(), Status> {
    let principal = Principal::of(request.extensions());
    principal.require_reading(Facility::Health).map_err(|error| status::grpc(&error))
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for GrpcHealth {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        may_ask(&request)?;
        match SERVICES.contains(&request.get_ref().service.as_str()) {
            true => Ok(Response::new(response(self.status()))),
            false => Err(Status::not_found(format!("no service '{}' here", request.get_ref().service))),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        may_ask(&request)?;
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            // As the protocol has it: said, and waited on, for it might come.
            let unknown = stream::iter([Ok(response(ServingStatus::ServiceUnknown))]);
            let draining = self.draining.clone().cancelled_owned();
            return Ok(Response::new(unknown.chain(stream::pending()).take_until(draining).boxed()));
        }
        let health = self.clone();
        let changes = stream::unfold(None, move |known| {
            let change = health.clone().change(known);
            async move { change.await.map(|status| (Ok(response(status)), Some(status))) }
        });
        Ok(Response::new(changes.boxed()))
    }
}

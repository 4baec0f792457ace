//! Which service a call is for. Entry point: [`Routes`].

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// The answer that a service will give.
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

type Call = Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// Services by name. Cheap to clone: each call does.
#[derive(Clone)]
pub(super) struct Routes(Arc<[(&'static str, Call)]>);

/// Services that become [`Routes`].
#[derive(Default)]
pub(super) struct RoutesBuilder(Vec<(&'static str, Call)>);

impl RoutesBuilder {
    /// One more. What is called most comes first.
    pub(super) fn service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>,
        S: NamedService + Clone + Send + Sync + 'static,
    {
        // Services of gRPC are ready at any time.
        self.0.push((S::NAME, Box::new(move |request| service.clone().call(request))));
        self
    }

    /// One more, if it is wanted.
    pub(super) fn optional<S>(self, service: Option<S>) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>,
        S: NamedService + Clone + Send + Sync + 'static,
    {
        match service {
            Some(service) => self.service(service),
            None => self,
        }
    }

    pub(super) fn build(self) -> Routes {
        Routes(self.0.into())
    }
}

/// The service in `/package.Service/Method`.
fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let name = service_of(request.uri().path()).unwrap_or_default();
        match self.0.iter().find(|(known, _)| *known == name) {
            Some((_, call)) => call(request),
            None => {
                let status = Status::unimplemented("this server has no such service");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_services() {
        let check = |path: &str, expected: Option<&str>| assert_eq!(service_of(path), expected, "{path}");
        check("/idmap.v1.Lookup/ResolveAccount", Some("idmap.v1.Lookup"));
        check("/idmap.v1.Lookup/a/b", Some("idmap.v1.Lookup"));
        check("//", Some(""));
        for nothing in ["", "/", "idmap.v1.Lookup/ResolveAccount", "/idmap.v1.Lookup"] {
            check(nothing, None);
        }
    }
}

//! Which service a call is for. Entry point: [`Routes`].

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::gate::Answer;

/// The answer that a service of tonic will give.
type Later = BoxFuture<'static, Result<Response<Body>, Infallible>>;

type Call = Box<dyn Fn(Request<Body>) -> Answer<Body> + Send + Sync>;

/// Services by name. Cheap to clone.
#[derive(Clone)]
pub(super) struct Routes(Arc<[(&'static str, Call)]>);

/// Services that become [`Routes`].
#[derive(Default)]
pub(super) struct RoutesBuilder(Vec<(&'static str, Call)>);

impl RoutesBuilder {
    /// One more. What is called most comes first.
    pub(super) fn service<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Later>,
        S: NamedService + Clone + Send + Sync + 'static,
    {
        // Services of gRPC are ready at any time.
        self.answers(S::NAME, move |request| Answer::Right(service.clone().call(request)))
    }

    /// One more, by what answers its calls.
    pub(super) fn answers(
        mut self,
        name: &'static str,
        answer: impl Fn(Request<Body>) -> Answer<Body> + Send + Sync + 'static,
    ) -> Self {
        self.0.push((name, Box::new(answer)));
        self
    }

    /// One more, if it is wanted.
    pub(super) fn optional<S>(self, service: Option<S>) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Later>,
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

impl Routes {
    /// Has a call answered by its service.
    pub(super) fn answer(&self, request: Request<Body>) -> Answer<Body> {
        let name = service_of(request.uri().path()).unwrap_or_default();
        match self.0.iter().find(|(known, _)| *known == name) {
            Some((_, call)) => call(request),
            None => {
                let status = Status::unimplemented("this server has no such service");
                Answer::Left(ready(Ok(status.into_http())))
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

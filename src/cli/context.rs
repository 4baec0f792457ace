//! What every command is given. Entry point: [`Context::new`].

use okta_idmap_proto::v1;

use super::args::{Form, Global};
use super::backend::Backend;
use super::failure::Failure;
use super::output::Output;
use crate::config::{Config, ConfigErrors, OrgConfig};

/// Configuration, flags and output of a command.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) global: Global,
    pub(super) output: Output,
}

impl Context {
    pub(super) fn new(config: Config, global: Global) -> Self {
        // An export in columns prints nothing; whoever else is asked for them is refused before this.
        let output = Output { form: global.printed().unwrap_or(Form::Table), quiet: global.quiet };
        Self { config, global, output }
    }

    /// Whoever answers look-ups in one org.
    pub(super) async fn backend(&self) -> Result<Backend, Failure> {
        // Asked for first: two orgs are wrong whoever answers.
        self.request_context()?;
        let the_org = || Ok(vec![self.config.require_org(self.global.org.first().map(String::as_str))?]);
        Backend::choose(&self.config, &self.global, the_org).await
    }

    /// Whoever answers about several orgs.
    pub(super) async fn backend_of_all(&self) -> Result<Backend, Failure> {
        Backend::choose(&self.config, &self.global, || self.orgs()).await
    }

    /// A server that answers about one org; `why` says why nothing else will do.
    pub(super) async fn server(&self, why: &str) -> Result<Backend, Failure> {
        self.request_context()?;
        Backend::server_only(&self.config, &self.global, why).await
    }

    /// The context of a request about one org: the named one, or none, which means the only one.
    pub(super) fn request_context(&self) -> Result<Option<v1::RequestContext>, Failure> {
        match self.global.org.as_slice() {
            [] => Ok(None),
            [org] => Ok(Some(v1::RequestContext { org: org.clone(), ..Default::default() })),
            _ => Err(Failure::Usage(anyhow::anyhow!("this command is about one org: give --org once"))),
        }
    }

    /// The orgs that a command for several is about: the named ones, each once, or all.
    ///
    /// # Errors
    /// A name that is not configured; no org at all.
    pub(super) fn orgs(&self) -> Result<Vec<&OrgConfig>, ConfigErrors> {
        if self.global.org.is_empty() {
            if self.config.orgs.is_empty() {
                self.config.require_org(None)?;
            }
            return Ok(self.config.orgs.values().collect());
        }
        let mut orgs: Vec<&OrgConfig> = Vec::new();
        for name in &self.global.org {
            let org = self.config.require_org(Some(name))?;
            if !orgs.iter().any(|known| known.name == org.name) {
                orgs.push(org);
            }
        }
        Ok(orgs)
    }
}

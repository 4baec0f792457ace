//! What belongs to one org: its settings, client, store readers and index.
//!
//! Entry point: [`OrgRuntime::open`]. Nothing below the map of orgs knows that there are several.

use std::path::PathBuf;
use std::sync::Arc;

use super::crawl::PageSizes;
use crate::core::reconcile::Brake;
use crate::core::sync::Limits;

/// What an org is read with; from the validated configuration.
#[derive(Clone, Debug)]
pub struct OrgSettings {
    /// Name in the configuration; also the directory's.
    pub name: String,
    /// The org's directory.
    pub dir: PathBuf,
    /// What is read and within which limits.
    pub limits: Limits,
    /// Page sizes.
    pub page_sizes: Arc<PageSizes>,
    /// The deletion brake.
    pub brake: Brake,
    /// Fingerprint of the credential; holds nothing of it.
    pub credential: String,
}

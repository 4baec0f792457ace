//! The files of the package in a descriptor set. Entry point: [`package_files`].

use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The package that is walked.
pub(crate) const PACKAGE: &str = "idmap.v1";

/// The files of the package, without what they import.
pub(crate) fn package_files(descriptors: &FileDescriptorSet) -> impl Iterator<Item = &FileDescriptorProto> {
    descriptors.file.iter().filter(|file| file.package() == PACKAGE)
}

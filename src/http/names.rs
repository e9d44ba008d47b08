//! Looks up names, for all of the watchdog's connections.

use std::io;
use std::net::IpAddr;

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};

use super::address::is_public;

/// Whose addresses are used. One type for all connections, so that the client is compiled once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Every name's.
    All,
    /// Those of the public internet only.
    Public,
}

/// An address that may not be connected to.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} is no public address")]
pub(super) struct Private(pub(super) IpAddr);

impl Names {
    async fn look_up(self, name: &str) -> Result<Vec<IpAddr>, ResolveDnsError> {
        let of_system = |error: io::Error| ResolveDnsError::new(error);
        let found = tokio::net::lookup_host((name, 0))
            .await
            .map_err(of_system)?;
        let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if self == Self::Public {
            let first = addresses.first().copied();
            addresses.retain(|address| is_public(*address));
            if let Some(first) = first.filter(|_| addresses.is_empty()) {
                return Err(ResolveDnsError::new(Private(first)));
            }
        }
        Ok(addresses)
    }
}

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(self.look_up(name))
    }
}

//! What a pixel is connected to when it starts.

use std::net::Ipv4Addr;

use pixels_core::{Error, Name, Result};
use pixels_guest_api::host::Net;

use crate::engine::{Engine, Ready};
use crate::ids::Owner;
use crate::net::firewall::Firewall;
use crate::net::pasta::{self, Pasta};
use crate::net::resolvers::Resolvers;
use crate::net::{GATEWAY, routes, subnet};
use crate::record::{Record, Run};

/// Where the rules are known to all programs of this machine.
pub(crate) const RULES: &str = "/run/pixels";

/// A pixel's network, decided.
pub(crate) struct Plan {
    pub(crate) net: Net,
    pub(crate) resolvers: Resolvers,
    /// Whether pasta is to connect it once it exists.
    pub(crate) pasta: bool,
}

impl Engine {
    /// Decides, and sees to it that the host's rules are in force before the
    /// pixel exists.
    pub(crate) async fn plan_network(&self, ready: &Ready, record: &Record) -> Result<Plan> {
        let resolvers = Resolvers::choose(&self.config.dns);
        if !record.network {
            return Ok(Plan { net: Net::None, resolvers, pasta: false });
        }
        let Some(address) = self.address(ready, record) else {
            let closed = pasta::closed(&resolvers.servers);
            let closed = closed.iter().map(|n| (n.base, n.len)).collect();
            return Ok(Plan { net: Net::External { closed }, resolvers, pasta: true });
        };
        self.config.subnet.check(&routes::of_host())?;
        Firewall::new(RULES).ensure(&resolvers.servers).await?;
        let net = Net::Veth {
            host: subnet::interface(record.slot).into_bytes(),
            mac: subnet::mac(record.slot, record.id.as_bytes()),
            address,
            gateway: GATEWAY,
            mtu: None,
        };
        Ok(Plan { net, resolvers, pasta: false })
    }

    /// A pixel's own address, where it has one that the host reaches.
    pub(crate) fn address(&self, ready: &Ready, record: &Record) -> Option<Ipv4Addr> {
        let routed = record.network && ready.owner == Owner::Root;
        routed.then(|| self.config.subnet.address(record.slot)).flatten()
    }

    /// Lets pasta connect a pixel that exists and waits.
    pub(crate) async fn connect(
        &self,
        ready: &Ready,
        name: &Name,
        record: &Record,
        run: &Run,
    ) -> Result<Pasta> {
        let init = i32::try_from(run.pid)
            .map_err(|e| Error::backend("connect the pixel", e.to_string()))?;
        let mac = subnet::mac(record.slot, record.id.as_bytes());
        pasta::attach(init, mac, &ready.store.pixel(name)).await
    }
}

//! Server and API of the set-up, running in this process.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use certbind_devpki::DevPki;
use certbind_proto::time::{Clock as _, SystemClock};

use super::api::Api;
use super::setup::Setup;
use crate::cli::serve::{Platform, Server, Sockets};
use crate::config::{self, Environment, Sources};
use crate::net::Listener;

/// A server and an API that it issues tokens for.
pub struct Running {
    setup: Setup,
    server: Server,
    server_address: SocketAddr,
    api: Api,
}

impl Running {
    /// Starts both on what is in `dir`, making what is not there yet. Port 0 takes a free one.
    ///
    /// # Errors
    /// When something cannot be made, or an address is taken.
    pub async fn start(dir: &Path, server: SocketAddr, api: SocketAddr) -> anyhow::Result<Self> {
        let (server, api) = listen(server, api)?;
        let setup = Setup::prepare(dir, server.local_address(), api.local_address(), SystemClock.now())?;
        Self::serve(setup, server, api).await
    }

    /// The same on a fresh folder, with a PKI that the caller goes on using.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_pki(dir: &Path, server: SocketAddr, api: SocketAddr, pki: &DevPki) -> anyhow::Result<Self> {
        let (server, api) = listen(server, api)?;
        let setup = Setup::with_pki(dir, server.local_address(), api.local_address(), pki)?;
        Self::serve(setup, server, api).await
    }

    async fn serve(setup: Setup, server: Listener, api: Listener) -> anyhow::Result<Self> {
        let sources = Sources { file: setup.config_file(), environment: Environment::default(), set: Vec::new() };
        let opened = config::open(&sources, SystemClock.now()).map_err(|rejected| anyhow::anyhow!("{rejected}"))?;
        let server_address = server.local_address();
        let server = Server::start(opened, Sockets::with_mtls(server), Platform::default()).await?;
        let api = Api::start(api, &setup).await?;
        Ok(Self { setup, server, server_address, api })
    }

    /// The folder and what is in it.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Where the server listens.
    #[must_use]
    pub const fn server_address(&self) -> SocketAddr {
        self.server_address
    }

    /// Where the API listens.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api.address()
    }

    /// Ends both, after what is in flight.
    pub async fn stop(self) {
        self.api.stop().await;
        self.server.stop().await;
    }
}

fn listen(server: SocketAddr, api: SocketAddr) -> anyhow::Result<(Listener, Listener)> {
    let bind = |address| Listener::bind(address).with_context(|| format!("cannot listen on {address}"));
    Ok((bind(server)?, bind(api)?))
}

//! A network between server and database that can be slow, cut or a black hole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Fine,
    /// Every packet takes this much longer.
    Slow(Duration),
    /// Everything is accepted and nothing arrives.
    BlackHole,
    /// Connections break in the middle of an answer, and new ones are refused.
    Cut,
}

/// A proxy before a port.
pub(super) struct Proxy {
    pub(super) port: u16,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// Must be called from within a runtime.
    pub(super) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let weather = Arc::new(watch::Sender::new(Weather::Fine));
        let theirs = Arc::clone(&weather);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, port, theirs.subscribe()));
            }
        });
        Self { port: own, weather }
    }

    pub(super) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn carry(client: TcpStream, port: u16, weather: watch::Receiver<Weather>) {
    if *weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(from_client, to_server, weather.clone());
    let back = pump(from_server, to_client, weather);
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = weather.wait_for(|now| *now == Weather::Cut) => return,
        };
        let Ok(count @ 1..) = read else { return };
        let now = *weather.borrow();
        match now {
            Weather::Fine => {}
            Weather::Slow(delay) => tokio::time::sleep(delay).await,
            Weather::BlackHole => {
                let _ = weather.wait_for(|now| *now != Weather::BlackHole).await;
            }
            Weather::Cut => {
                let _ = to.write_all(&buffer[..count / 2]).await;
                return;
            }
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

//! `/metrics` and `/healthz`.

use std::{
    net::SocketAddr,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, anyhow};
use tiny_http::{Header, Method, Request, Response, StatusCode};

use crate::metrics::{Exposition, Shared, encode};

/// So many requests are answered at once.
const THREADS: usize = 4;
/// How long ending takes at most, while no request is being answered.
const POLL: Duration = Duration::from_millis(200);

/// What a request must have in its header `Authorization`; `None`: nothing.
pub type Token = Arc<RwLock<Option<String>>>;

/// A server, until it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A server that is bound to its address and answers nobody yet: of who comes now the answer waits.
pub struct Bound {
    server: tiny_http::Server,
    address: SocketAddr,
}

impl Bound {
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub fn new(address: SocketAddr) -> Result<Bound> {
        let server = tiny_http::Server::http(address)
            .map_err(|error| anyhow!("cannot listen on {address} ({error}): choose another --listen"))?;
        let address = server.server_addr().to_ip().unwrap_or(address);
        Ok(Bound { server, address })
    }

    /// Answers requests.
    ///
    /// # Errors
    ///
    /// No thread can be made.
    pub fn start(
        self,
        state: &Shared,
        token: &Token,
        begin: impl Fn() + Clone + Send + 'static,
    ) -> Result<Server> {
        let (server, stop) = (Arc::new(self.server), Arc::new(AtomicBool::new(false)));
        let start = || {
            let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
            let (state, token, begin) = (Arc::clone(state), Arc::clone(token), begin.clone());
            std::thread::Builder::new().name("http".into()).spawn(move || {
                begin();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(Some(request)) = server.recv_timeout(POLL) {
                        answer(request, &state, &token);
                    }
                }
            })
        };
        let threads = (0..THREADS).map(|_| start()).collect::<std::io::Result<Vec<_>>>()?;
        Ok(Server { address: self.address, stop, threads })
    }
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // One that answers a slow client is left behind.
        self.threads.retain(|thread| !thread.is_finished());
    }
}

fn answer(request: Request, state: &Shared, token: &Token) {
    let (code, content_type, body) = response(&request, state, token);
    let header = Header::from_bytes("Content-Type", content_type);
    let mut response = Response::from_data(body).with_status_code(StatusCode(code));
    if let Ok(header) = header {
        response.add_header(header);
    }
    // The client may have gone.
    let _ = request.respond(response);
}

fn response(request: &Request, state: &Shared, token: &Token) -> (u16, &'static str, Vec<u8>) {
    let plain = |code, text: &str| (code, "text/plain; charset=utf-8", format!("{text}\n").into_bytes());
    let path = request.url().split('?').next().unwrap_or_default();
    if path == "/healthz" {
        let is_healthy = state.lock().is_ok_and(|state| state.own.is_healthy);
        return if is_healthy { plain(200, "ok") } else { plain(503, "the recorder does not work") };
    }
    let given = header(request, "Authorization");
    if !is_allowed(token.read().ok().as_deref().and_then(Option::as_deref), &given) {
        return plain(401, "a bearer token is needed");
    }
    match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => {
            let exposition = Exposition::accepted(&header(request, "Accept"));
            match encode(state, exposition) {
                Ok(body) => (200, exposition.content_type(), body),
                Err(_) => plain(500, "the metrics cannot be encoded"),
            }
        }
        (Method::Get | Method::Head, "/") => plain(200, "overlay-trace monitor: /metrics and /healthz"),
        _ => plain(404, "there are /metrics and /healthz"),
    }
}

fn header(request: &Request, name: &'static str) -> String {
    let found = request.headers().iter().find(|header| header.field.equiv(name));
    found.map(|header| header.value.to_string()).unwrap_or_default()
}

/// Compares in a time that does not tell how much is right.
fn is_allowed(token: Option<&str>, given: &str) -> bool {
    let Some(token) = token else { return true };
    let given = given.strip_prefix("Bearer ").unwrap_or_default().trim().as_bytes();
    let token = token.as_bytes();
    let differing = token.iter().zip(given).fold(0, |sum, (one, other)| sum | (one ^ other));
    token.len() == given.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        sync::Mutex,
    };

    use overlay_trace_format::Counters;

    use super::*;
    use crate::{
        Aggregation, Devices,
        metrics::{Info, Own, State},
    };

    fn get(address: SocketAddr, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn metrics_need_the_token_and_health_does_not() {
        let state: Shared = Arc::new(Mutex::new(State {
            aggregation: Aggregation::new(10, Devices::Classes),
            counters: Counters::default(),
            info: Info::default(),
            own: Own { is_healthy: true, ..Own::default() },
        }));
        let token: Token = Arc::new(RwLock::new(Some("right".into())));
        let server =
            Bound::new("127.0.0.1:0".parse().unwrap()).unwrap().start(&state, &token, || ()).unwrap();
        let address = server.address();
        assert!(get(address, "/healthz", "").starts_with("HTTP/1.1 200"));
        for headers in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Bearer righ\r\n",
            "Authorization: right\r\n",
        ] {
            assert!(get(address, "/metrics", headers).starts_with("HTTP/1.1 401"), "{headers}");
        }
        let answer = get(address, "/metrics", "Authorization: Bearer right\r\n");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("overlay_trace_up 1"), "{answer}");
        // Another token, as after SIGHUP; and none.
        *token.write().unwrap() = None;
        assert!(get(address, "/metrics", "").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/elsewhere", "").starts_with("HTTP/1.1 404"));
        state.lock().unwrap().own.is_healthy = false;
        assert!(get(address, "/healthz", "").starts_with("HTTP/1.1 503"));
        let taken = Bound::new(address).err().unwrap().to_string();
        assert!(taken.contains("cannot listen on"), "{taken}");
    }
}

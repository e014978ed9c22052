//! An OIDC issuer on loopback: discovery and keys over HTTP, and tokens signed with them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::{DEADLINE, now_seconds};

/// A running issuer. Its URL is `http://ADDRESS/tenant`.
#[derive(Debug)]
pub struct Issuer {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// How it answers from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// As it should.
    Well,
    /// It takes connections and closes them.
    Hanging,
    /// It takes connections and says nothing.
    Silent,
    /// 200 and no JSON.
    Garbage,
    /// 200 and a body without end, at least 2 MiB.
    Huge,
    /// 302 to a path that would answer well.
    Elsewhere,
    /// 500.
    Failing,
    /// Discovery names another issuer.
    Renamed,
    /// No usable key.
    Keyless,
}

#[derive(Debug)]
struct State {
    answering: Answering,
    keys: Vec<Key>,
    /// Paths asked for, in order.
    asked: Vec<String>,
    stopped: bool,
}

#[derive(Debug)]
struct Key {
    kid: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Issuer {
    /// With one P-256 key named `ec-1`, answering well.
    pub fn start() -> Self {
        Self::answering(Answering::Well)
    }

    /// The same, answering as told from the start.
    pub fn answering(answering: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let keys = vec![Key::ec("ec-1")];
        let state = Arc::new(Mutex::new(State { answering, keys, asked: Vec::new(), stopped: false }));
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || serve(&listener, addr, &shared));
        Self { addr, state, thread: Some(thread) }
    }

    /// Its identifier.
    pub fn url(&self) -> String {
        format!("http://{}/tenant", self.addr)
    }

    /// An `[[oidc.issuers]]` section that trusts it: the owner role is `owner`, the reader role `reader`.
    pub fn section(&self, more: &str) -> String {
        let url = self.url();
        format!(
            "[[oidc.issuers]]\nurl = \"{url}\"\nowner = [\"roles=owner\"]\nreader = [\"roles=reader\"]\n{more}\n"
        )
    }

    /// Changes how it answers.
    pub fn answer(&self, answering: Answering) {
        self.lock().answering = answering;
    }

    /// Replaces all keys with a new P-256 key of that name.
    pub fn rotate_to(&self, kid: &str) {
        self.lock().keys = vec![Key::ec(kid)];
    }

    /// Replaces all keys with a new RSA key of that name.
    pub fn rotate_to_rsa(&self, kid: &str) {
        self.lock().keys = vec![Key { kid: kid.to_owned(), pair: Pair::Rsa(Box::new(rsa())) }];
    }

    /// How often its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.asked("/tenant/keys")
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.lock().asked.iter().filter(|asked| *asked == path).count()
    }

    /// Claims of a good token for somebody with `role`.
    pub fn claims(&self, role: &str) -> Value {
        json!({
            "iss": self.url(), "aud": "https://webpubsub.azure.com", "sub": "somebody",
            "roles": [role], "iat": now_seconds(), "exp": now_seconds() + 3600,
        })
    }

    /// A good token for somebody with `role`.
    pub fn token(&self, role: &str) -> String {
        self.sign(&self.claims(role))
    }

    /// Signs claims with the current key, named as it is.
    pub fn sign(&self, claims: &Value) -> String {
        let state = self.lock();
        let key = &state.keys[0];
        key.sign(&key.kid, claims)
    }

    /// Signs claims with the current key under another name.
    pub fn sign_as(&self, kid: &str, claims: &Value) -> String {
        self.lock().keys[0].sign(kid, claims)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the issuer panicked")
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.stopped = true;
        }
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Key {
    fn ec(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self { kid: kid.to_owned(), pair: Pair::Ec(pair) }
    }

    fn sign(&self, kid: &str, claims: &Value) -> String {
        let alg = if matches!(self.pair, Pair::Ec(_)) { "ES256" } else { "RS256" };
        let header = json!({ "alg": alg, "typ": "JWT", "kid": kid });
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message.as_bytes()).expect("a signature").as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)
                    .expect("a signature");
                signature
            }
        };
        format!("{message}.{}", b64(signature))
    }

    fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
                json!({ "kty": "EC", "use": "sig", "crv": "P-256", "kid": self.kid, "x": x, "y": y })
            }
            Pair::Rsa(pair) => {
                let n = b64(pair.public_key().modulus().big_endian_without_leading_zero());
                let e = b64(pair.public_key().exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e })
            }
        }
    }
}

fn rsa() -> RsaKeyPair {
    RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode_to_string(bytes)
}

/// One connection after the other, one request each.
fn serve(listener: &TcpListener, addr: SocketAddr, state: &Mutex<State>) {
    let mut silent = Vec::new();
    for stream in listener.incoming().map_while(Result::ok) {
        {
            let state = state.lock().expect("the test panicked");
            match state.answering {
                _ if state.stopped => return,
                Answering::Hanging => continue,
                Answering::Silent => {
                    silent.push(stream);
                    continue;
                }
                _ => {}
            }
        }
        // Who goes away in the middle is of no interest here.
        let _ = exchange(stream, addr, state);
    }
}

fn exchange(mut stream: TcpStream, addr: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(request) = lines.next().transpose()? else { return Ok(()) };
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (answering, keys) = {
        let mut state = state.lock().expect("the test panicked");
        state.asked.push(path.clone());
        (state.answering, state.keys.iter().map(Key::jwk).collect::<Vec<_>>())
    };
    let issuer = match answering {
        Answering::Renamed => format!("http://{addr}/other"),
        _ => format!("http://{addr}/tenant"),
    };
    let body = match path.trim_start_matches("/moved") {
        "/tenant/.well-known/openid-configuration" => {
            json!({ "issuer": issuer, "jwks_uri": format!("http://{addr}/tenant/keys"), "more": [1] })
        }
        "/tenant/keys" if answering == Answering::Keyless => json!({ "keys": [{ "kty": "oct", "k": "AA" }] }),
        "/tenant/keys" => json!({ "keys": keys }),
        _ => {
            return stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    };
    let answer = match answering {
        Answering::Garbage => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>".to_owned(),
        Answering::Huge => {
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"keys\":\"{}", "x".repeat(2 << 20))
        }
        Answering::Elsewhere => format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{addr}/moved{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        Answering::Failing => "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        _ => {
            let body = body.to_string();
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        }
    };
    stream.write_all(answer.as_bytes())
}

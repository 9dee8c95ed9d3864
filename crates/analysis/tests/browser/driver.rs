//! A browser without a window, by the WebDriver protocol.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// A browser that does not answer in this time hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const OPTIONS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1200",
];

pub struct Browser {
    driver: Child,
    /// Kept, so that the driver can write to it.
    _output: BufReader<ChildStdout>,
    port: u16,
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser. `None`, and a line that says so, where the machine has none.
    pub fn start() -> Option<Browser> {
        let started =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut driver) = started else {
            eprintln!("skipped: there is no chromedriver (packages chromium and chromium-driver)");
            return None;
        };
        let mut output = BufReader::new(driver.stdout.take()?);
        let port = port(&mut output);
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Browser { driver, _output: output, port, session: String::new(), profile };
        let mut options: Vec<String> = OPTIONS.iter().map(|option| option.to_string()).collect();
        options.push(format!("--user-data-dir={}", browser.profile.path().display()));
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": options }
        } } });
        let session = browser.call("POST", "/session", &capabilities);
        browser.session = format!("/session/{}", session["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while answer.read_line(&mut line).unwrap() > 2 {
            let name = line.to_ascii_lowercase();
            if let Some(bytes) = name.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let value = value["value"].clone();
        assert!(value.get("error").is_none(), "{path}: {value}");
        value
    }

    fn post(&mut self, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        self.call("POST", &path, body)
    }

    pub fn open(&mut self, page: &Path) {
        self.post("/url", &json!({ "url": format!("file://{}", page.display()) }));
    }

    /// What a script returns.
    pub fn run(&mut self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    pub fn number(&mut self, script: &str) -> f64 {
        let value = self.run(script);
        value.as_f64().unwrap_or_else(|| panic!("{script} gives {value}"))
    }

    pub fn text(&mut self, script: &str) -> String {
        let value = self.run(script);
        value.as_str().unwrap_or_else(|| panic!("{script} gives {value}")).to_owned()
    }

    /// The element that an expression gives.
    fn element(&mut self, expression: &str) -> String {
        let element = self.run(&format!("return {expression}"));
        element[ELEMENT].as_str().unwrap_or_else(|| panic!("{expression} is {element}")).to_owned()
    }

    pub fn click(&mut self, expression: &str) {
        let element = self.element(expression);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    pub fn keys(&mut self, expression: &str, keys: &str) {
        // SVG elements cannot be typed into; what has the focus can.
        self.run(&format!("{expression}.focus()"));
        let keys: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": keys }] }));
    }

    /// Turns the wheel above the middle of an element; what is negative is up.
    pub fn wheel(&mut self, expression: &str, pixels: i64) {
        let element = self.element(expression);
        let scroll = json!({ "type": "scroll", "x": 0, "y": 0, "deltaX": 0, "deltaY": pixels, "origin": { ELEMENT: element } });
        self.post(
            "/actions",
            &json!({ "actions": [{ "type": "wheel", "id": "wheel", "actions": [scroll] }] }),
        );
    }

    /// The page as PDF, in base64.
    pub fn print(&mut self) -> String {
        self.post("/print", &json!({})).as_str().unwrap_or_default().to_owned()
    }

    /// What the page's script and its policy complained of.
    pub fn errors(&mut self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let is_error = |entry: &&Value| entry["level"] == "SEVERE";
        entries.iter().filter(is_error).map(|entry| entry["message"].to_string()).collect()
    }
}

/// The port that the driver says it has.
fn port(output: &mut impl BufRead) -> u16 {
    let of = |line: String| line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok();
    output.lines().map_while(Result::ok).find_map(of).expect("chromedriver names its port")
}

impl Drop for Browser {
    fn drop(&mut self) {
        let path = self.session.clone();
        if !path.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &path, &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

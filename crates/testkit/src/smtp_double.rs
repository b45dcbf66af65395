//! A mail server by programme: it speaks SMTP, keeps what it takes and what it hears, and says at any step
//! what a test has told it to, or ends the connection there, or says nothing at all. No TLS: of a client
//! that begins it, it hears the first bytes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Messages remembered; more is a runaway test.
const MAILS_MAX: usize = 10_000;
/// Bytes remembered of what is heard; more is a runaway test.
const HEARD_MAX: usize = 64 * 1024 * 1024;

/// A step of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SmtpStep {
    /// The first line, on connecting.
    Greeting,
    /// The answer to `EHLO`.
    Ehlo,
    /// The answer to `STARTTLS`, which the usual answer to `EHLO` does not offer.
    StartTls,
    /// The answer to `AUTH`.
    Auth,
    /// The answer to `MAIL FROM`.
    Mail,
    /// The answer to `RCPT TO`.
    Rcpt,
    /// The answer to `DATA`.
    Data,
    /// The answer to the whole text: the message is kept before it is given.
    Text,
}

/// What is said at a step instead of yes.
#[derive(Clone, Debug)]
pub enum SmtpSay {
    /// These lines, e.g. `550 5.1.1 no such user`.
    Line(&'static str),
    /// The connection ends.
    Drop,
    /// Nothing, until the client gives up.
    Silence,
}

/// A message that was taken, or may have been.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// As in `MAIL FROM:<…>`.
    pub from: String,
    /// As in `RCPT TO:<…>`.
    pub to: String,
    /// Headers and body, dots unstuffed.
    pub text: String,
}

type Script = Arc<Mutex<HashMap<SmtpStep, SmtpSay>>>;
type Kept = Arc<watch::Sender<Vec<Mail>>>;

/// Every byte of every client, and how many conversations are over.
#[derive(Debug, Default)]
struct Ear {
    bytes: Mutex<Vec<u8>>,
    ended: watch::Sender<usize>,
}

impl Ear {
    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(heard.len() + bytes.len() <= HEARD_MAX, "more than {HEARD_MAX} bytes");
        heard.extend_from_slice(bytes);
    }
}

/// The server. Dropping it ends its connections.
#[derive(Debug)]
pub struct SmtpDouble {
    addr: SocketAddr,
    script: Script,
    mails: Kept,
    ear: Arc<Ear>,
    _accepting: AbortOnDropHandle<()>,
}

impl SmtpDouble {
    /// One that takes everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let addr = listener.local_addr().expect("its address");
        let (script, mails) = (Script::default(), Arc::new(watch::channel(Vec::new()).0));
        let ear = Arc::<Ear>::default();
        let accepting = accept(listener, script.clone(), mails.clone(), ear.clone());
        let accepting = AbortOnDropHandle::new(tokio::spawn(accepting));
        Self { addr, script, mails, ear, _accepting: accepting }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it says at that step from now on.
    pub fn say(&self, step: SmtpStep, say: SmtpSay) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).insert(step, say);
    }

    /// Yes to everything again.
    pub fn agree(&self) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What arrived whole, in the order of arrival.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.borrow().clone()
    }

    /// Every byte that clients sent, once so many conversations are over; panics after 30 seconds.
    pub async fn heard(&self, ended: usize) -> Vec<u8> {
        let mut over = self.ear.ended.subscribe();
        let wait = over.wait_for(|over| *over >= ended);
        let all = tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok();
        assert!(all, "{} conversations, waited for {ended}", *self.ear.ended.borrow());
        self.ear.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for that many; panics after 30 seconds.
    pub async fn taken(&self, count: usize) -> Vec<Mail> {
        let mut mails = self.mails.subscribe();
        let wait = mails.wait_for(|mails| mails.len() >= count);
        let arrived = tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok();
        assert!(arrived, "{} messages, waited for {count}", self.mails().len());
        self.mails()
    }
}

async fn accept(listener: TcpListener, script: Script, mails: Kept, ear: Arc<Ear>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let conversation = Conversation {
            stream: BufReader::new(stream),
            script: script.clone(),
            mails: mails.clone(),
            ear: ear.clone(),
            mail: Mail::default(),
        };
        let ear = ear.clone();
        connections.spawn(async move {
            // Ends in an error where the script or the client ends it.
            conversation.hold().await.ok();
            ear.ended.send_modify(|ended| *ended += 1);
        });
    }
}

struct Conversation {
    stream: BufReader<TcpStream>,
    script: Script,
    mails: Kept,
    ear: Arc<Ear>,
    mail: Mail,
}

impl Conversation {
    async fn hold(mut self) -> std::io::Result<()> {
        self.answer(SmtpStep::Greeting, "220 double.example ESMTP").await?;
        while let Some(line) = self.line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let features = "250-double.example\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME";
                    self.answer(SmtpStep::Ehlo, features).await?;
                }
                "STARTTLS" => {
                    if self.answer(SmtpStep::StartTls, "220 2.0.0 go on").await? {
                        return self.client_hello().await;
                    }
                }
                "AUTH" => {
                    self.answer(SmtpStep::Auth, "235 2.7.0 welcome").await?;
                }
                "MAIL" => {
                    self.mail = Mail { from: inside(&line), ..Mail::default() };
                    self.answer(SmtpStep::Mail, "250 2.1.0 fine").await?;
                }
                "RCPT" => {
                    self.mail.to = inside(&line);
                    self.answer(SmtpStep::Rcpt, "250 2.1.5 fine").await?;
                }
                "DATA" => {
                    if self.answer(SmtpStep::Data, "354 go on").await? {
                        self.text().await?;
                    }
                }
                "QUIT" => return self.write("221 2.0.0 bye").await,
                _ => self.write("502 5.5.2 not known here").await?,
            }
        }
        Ok(())
    }

    /// Hears how TLS begins; what would follow it cannot say.
    async fn client_hello(&mut self) -> std::io::Result<()> {
        let mut hello = [0; 4_096];
        let read = self.stream.read(&mut hello).await?;
        self.ear.hear(hello.get(..read).unwrap_or_default());
        Ok(())
    }

    /// Reads the text, keeps it, answers.
    async fn text(&mut self) -> std::io::Result<()> {
        let mut text = String::new();
        while let Some(line) = self.line().await? {
            if line == "." {
                self.mail.text = text;
                let mail = std::mem::take(&mut self.mail);
                self.mails.send_modify(|mails| {
                    assert!(mails.len() < MAILS_MAX, "more than {MAILS_MAX} messages");
                    mails.push(mail);
                });
                return self.answer(SmtpStep::Text, "250 2.0.0 taken as 4711").await.map(drop);
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push('\n');
        }
        Ok(())
    }

    /// Says what the script has, else yes; whether it was yes.
    async fn answer(&mut self, step: SmtpStep, yes: &str) -> std::io::Result<bool> {
        let said = self.script.lock().unwrap_or_else(PoisonError::into_inner).get(&step).cloned();
        match said {
            None => self.write(yes).await.map(|()| true),
            Some(SmtpSay::Line(line)) => self.write(line).await.map(|()| false),
            Some(SmtpSay::Drop) => Err(std::io::Error::other("dropped on purpose")),
            Some(SmtpSay::Silence) => {
                // Until the client hangs up.
                while self.line().await?.is_some() {}
                Err(std::io::Error::other("silent on purpose"))
            }
        }
    }

    async fn write(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await
    }

    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await;
        self.ear.hear(&line);
        if read? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// What stands between the angle brackets.
fn inside(line: &str) -> String {
    let inside = line.split('<').nth(1).and_then(|rest| rest.split('>').next());
    inside.unwrap_or_default().to_owned()
}

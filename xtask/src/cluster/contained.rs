//! A whole cluster in namespaces of this machine: no Docker, no registry.
//!
//! `init.sh` is pid 1 in there and starts everything; the end of the process that made the namespaces is the end of all of
//! it, mounts and interfaces included.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};

use super::addresses::Number;
use super::config::{self, System};
use super::state::{Contained, Mode, Record, State};
use super::{pki, process, programs};
use crate::images::archive::{self, Archive};
use crate::run;

/// How long a start may take on a loaded machine. A node takes eight seconds on a quiet one.
const START: Duration = Duration::from_mins(4);

/// Starts a cluster and returns when it can be used. Leaves nothing but logs when that fails.
pub fn up(state: &State, mode: Mode) -> anyhow::Result<Contained> {
    if mode == Mode::Node && !run::is_root() {
        bail!(
            "a node in namespaces of this machine needs root (mounts, cgroups, interfaces). As another user: install \
             kind and Docker, name a cluster in KUBECONFIG, or take --control-plane-only"
        );
    }
    let (bin, system) = match mode {
        Mode::ControlPlane => (programs::built(programs::CONTROL_PLANE)?, None),
        Mode::Node => (programs::built(programs::NODE)?, Some(System::found()?)),
    };
    state.clear()?;
    let number = if mode == Mode::Node { claim_number()? } else { Number(0) };
    let mut cluster = Contained {
        mode,
        number,
        interface: interface_index(&number.host_link()).filter(|_| mode == Mode::Node),
        guard_pid: 0,
        init_pid: 0,
        node: number.node(),
        cgroup: format!("{}-{}", number.cgroup(), std::process::id()),
        host_ip: number.host_ip(),
        node_ip: number.node_ip(),
        dns_ip: number.dns_ip(),
        bin,
    };
    if let Err(error) = start(state, &mut cluster, system.as_ref()) {
        let tail = last_lines(state);
        down(state, &cluster).context("failed to clean up")?;
        return Err(error.context(format!("the cluster did not start; logs are in {}\n{tail}", state.log().display())));
    }
    Ok(cluster)
}

fn start(state: &State, cluster: &mut Contained, system: Option<&System>) -> anyhow::Result<()> {
    let began = SystemTime::now();
    // From here on `down` finds what there is to undo, however this ends.
    state.write(&Record::SelfContained(cluster.clone()))?;
    let (host, port) = match cluster.mode {
        Mode::ControlPlane => ("127.0.0.1", free_port()?),
        Mode::Node => (cluster.node_ip.as_str(), 6443),
    };
    let run_folder = state.run();
    pki::write(&run_folder.join("pki"), cluster.number, &format!("https://{host}:{port}"))?;
    config::write(&run_folder.join("config"), cluster.number, &cluster.cgroup, system)?;
    for name in ["pids", "held", "images", "log"] {
        fs::create_dir_all(run_folder.join(name)).context("failed to make a folder")?;
    }
    if cluster.mode == Mode::Node {
        system_images(state, cluster)?;
    }
    let mut guard = spawn(state, cluster, port, system)?;
    cluster.guard_pid = i32::try_from(guard.id()).context("a pid fits")?;
    state.write(&Record::SelfContained(cluster.clone()))?;
    if cluster.mode == Mode::Node {
        wait(&mut guard, "the node's namespaces", || run_folder.join("wants-network").exists().then_some(()))?;
    }
    let guard_pid = cluster.guard_pid;
    cluster.init_pid = wait(&mut guard, "the cluster's first process", || process::child_of(guard_pid))?;
    state.write(&Record::SelfContained(cluster.clone()))?;
    if cluster.mode == Mode::Node {
        connect(cluster)?;
        fs::write(run_folder.join("has-network"), "").context("failed to write a file")?;
    }
    let mut shown = String::new();
    wait(&mut guard, "the cluster", || {
        let phase = fs::read_to_string(run_folder.join("phase")).unwrap_or_default().trim().to_owned();
        if phase != shown && phase != "ready" {
            eprintln!("xtask: {phase}");
        }
        shown = phase;
        (shown == "ready").then_some(())
    })?;
    let admin = fs::read_to_string(run_folder.join("pki/admin.kubeconfig")).context("failed to read the kubeconfig")?;
    state.write_kubeconfig(&admin)?;
    let seconds = began.elapsed().unwrap_or_default().as_secs_f32();
    eprintln!("xtask: the {} is ready after {seconds:.1} s", cluster.mode.name().replace('-', " "));
    Ok(())
}

/// Ends a cluster and removes all that it made, except logs. Works as well on one that never ran, or no longer runs.
pub fn down(state: &State, cluster: &Contained) -> anyhow::Result<()> {
    if process::is_ours(cluster.guard_pid, &state.run()) {
        process::kill(cluster.guard_pid)?;
    }
    if process::is_ours(cluster.init_pid, &state.run()) {
        process::kill(cluster.init_pid)?;
    } else if cluster.init_pid > 0 {
        process::gone(cluster.init_pid)?;
    }
    if cluster.mode == Mode::Node {
        remove_link(cluster)?;
        remove_cgroups(&cluster.cgroup)?;
        // What the containers wrote, a folder for each pod. There is none when no pod ever ran.
        let _ = fs::rename(state.run().join("node/var/log/pods"), state.log().join("pods"));
    }
    state.forget()
}

/// Whether it runs.
pub fn is_running(state: &State, cluster: &Contained) -> bool {
    process::is_ours(cluster.guard_pid, &state.run()) && process::is_ours(cluster.init_pid, &state.run())
}

/// Puts an image into the node's container runtime.
pub fn load(cluster: &Contained, archive: &std::path::Path) -> anyhow::Result<()> {
    let tar = File::open(archive).with_context(|| format!("failed to open {}", archive.display()))?;
    let mut command = inside(cluster, &["--mount"]);
    command.args([
        "ctr",
        "--address",
        "/run/cluster/containerd.sock",
        "--namespace",
        "k8s.io",
        "images",
        "import",
        "-",
    ]);
    let output = command.stdin(tar).output().context("failed to start nsenter")?;
    if !output.status.success() {
        bail!("failed to load {}: {}", archive.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A command in the cluster's namespaces.
fn inside(cluster: &Contained, namespaces: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &cluster.init_pid.to_string()]).args(namespaces).arg("--");
    command
}

/// The first number whose interface nobody has.
fn claim_number() -> anyhow::Result<Number> {
    for number in (0..=u8::MAX).map(Number) {
        let (host, node) = (number.host_link(), number.node_link());
        if fs::exists(format!("/sys/class/net/{host}")).unwrap_or(false) {
            continue;
        }
        let mut add = Command::new("ip");
        match run::output(add.args(["link", "add", &host, "type", "veth", "peer", "name", &node])) {
            Ok(_) => return Ok(number),
            Err(error) if error.to_string().contains("File exists") => {}
            Err(error) => return Err(error.context("failed to make a network interface")),
        }
    }
    bail!("all 256 numbers of clusters are taken: ip link shows them")
}

/// Below the range of which connections get theirs: one of those would take it before the API server does.
fn free_port() -> anyhow::Result<u16> {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..30_000)).take(1000);
    ports.find(is_free).context("no port from 20000 to 29999 is free")
}

/// What every node needs, in files that it imports as it starts. The pause container only has to stay alive.
fn system_images(state: &State, cluster: &Contained) -> anyhow::Result<()> {
    let images = [
        ("pause", "/bin/busybox".into(), &["sleep", "2000000000"][..]),
        ("coredns", cluster.bin.join("coredns"), &[][..]),
    ];
    for (name, program, arguments) in images {
        let image = Archive {
            reference: format!("localhost/cluster/{name}:1"),
            entrypoint: program.file_name().and_then(|name| name.to_str()).unwrap_or(name).to_owned(),
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            user: None,
            files: Vec::new(),
        };
        archive::write(&state.run().join("images").join(format!("{name}.tar")), &image)?;
    }
    Ok(())
}

fn spawn(state: &State, cluster: &Contained, port: u16, system: Option<&System>) -> anyhow::Result<Child> {
    let log = File::create(state.log().join("init.log")).context("failed to write into the log folder")?;
    // Its own session: an interrupt of this command, or the end of the terminal, leaves the cluster alone.
    let mut command = Command::new("setsid");
    command.args(["unshare", "--mount", "--pid"]);
    if cluster.mode == Mode::Node {
        command.arg("--net");
    } else if !run::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--fork", "--mount-proc", "--kill-child"]);
    command.arg(run::root().join("e2e/cluster/init.sh")).arg(cluster.mode.name()).arg(state.run()).arg(state.log());
    // Nothing of the user's environment: a proxy, say, would come between the components.
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("BIN", &cluster.bin).env("API_PORT", port.to_string());
    let number = cluster.number;
    command.env("HOST_IP", &cluster.host_ip).env("NODE_IP", &cluster.node_ip).env("NODE", &cluster.node);
    command.env("POD_CIDR", number.pod_cidr()).env("SERVICE_CIDR", number.service_cidr());
    command.env("CGROUP", &cluster.cgroup).env("VOLUMES", config::volumes().join(" "));
    if let Some(system) = system {
        command.env("CONTAINERD", &system.containerd).env("CTR", &system.ctr);
    }
    let (out, err) = (log.try_clone().context("failed to share the log")?, log);
    command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().context("failed to start setsid unshare")
}

/// Polls while the cluster lives.
fn wait<T>(guard: &mut Child, what: &str, mut condition: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let found = run::poll(START, || {
        if let Some(value) = condition() {
            return Ok(Some(value));
        }
        match guard.try_wait().context("failed to ask for a process")? {
            Some(status) => bail!("it ended with {status}"),
            None => Ok(None),
        }
    })?;
    found.with_context(|| format!("{what} was not there within {START:?}"))
}

/// Gives the node its end of the pair, and the machine its routes to pods and Services.
fn connect(cluster: &Contained) -> anyhow::Result<()> {
    let number = cluster.number;
    let (host, init) = (number.host_link(), cluster.init_pid.to_string());
    let ip = |arguments: &[&str]| run::output(Command::new("ip").args(arguments));
    ip(&["link", "set", &number.node_link(), "netns", &init, "name", "eth0"])?;
    ip(&["addr", "add", &format!("{}/24", cluster.host_ip), "dev", &host])?;
    ip(&["link", "set", &host, "up"])?;
    for network in [number.pod_cidr(), number.service_cidr()] {
        ip(&["route", "add", &network, "via", &cluster.node_ip])?;
    }
    Ok(())
}

/// Both ends go with one. The kernel would do it too, once the last connection of the node's network has timed out.
fn remove_link(cluster: &Contained) -> anyhow::Result<()> {
    let host = cluster.number.host_link();
    // Another index: it is gone already, and the number taken by a newer cluster.
    if interface_index(&host).is_some_and(|index| Some(index) == cluster.interface) {
        run::output(Command::new("ip").args(["link", "del", &host]))?;
    }
    Ok(())
}

/// The kernel never gives an index to two interfaces.
fn interface_index(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

/// A cgroup can be removed only when its last process is gone, which takes a moment.
fn remove_cgroups(name: &str) -> anyhow::Result<()> {
    // One for each controller of cgroup v1; the root itself in v2.
    let found = || -> Vec<_> {
        let below = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let controllers = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let places = std::iter::once("/sys/fs/cgroup".into()).chain(controllers.map(|entry| entry.path()));
        places.map(|place| place.join(name)).filter(|group| group.is_dir()).collect()
    };
    let removed = run::poll(Duration::from_secs(15), || {
        for group in found() {
            run::succeeds(Command::new("find").arg(&group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]));
        }
        Ok(found().is_empty().then_some(()))
    })?;
    if removed.is_none() {
        eprintln!("xtask: cgroups are left behind: {:?}", found());
    }
    Ok(())
}

/// The end of the log that says most: that of the phase which did not end.
fn last_lines(state: &State) -> String {
    let tail = |name: &str| {
        let log = fs::read_to_string(state.log().join(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        format!("── {name}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    };
    ["init.log", "kube-apiserver.log", "kubelet.log"].map(tail).concat()
}

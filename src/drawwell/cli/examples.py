"""Examples of every verb, for its help and the manual."""

from typing import Final

EXAMPLES: Final = {
    "status": (
        ("drawwell status --watch", "once a second, until Ctrl-C"),
        ("drawwell status --require ready --quiet", "for a script: exit 69 while nothing can be drawn"),
    ),
    "demo": (
        ("drawwell demo", "a simulated stick, a broker, two consumers"),
        ("drawwell demo --seconds 3", "the same in a shorter time"),
    ),
    "init": (
        ("drawwell init host", "a source for this machine, in conf.d"),
        ("drawwell init broker -o drawwell.toml", "for other machines too, in a file"),
    ),
    "check-health": (
        ("drawwell check-health", "a line for Nagios, and its exit code"),
        ("drawwell check-health --json", "the same for another program"),
    ),
    "run": (
        ("drawwell run", "no configuration: the first OneRNG found"),
        ("drawwell -c /tmp/drawwell.toml run", "what this file names"),
    ),
    "broker": (
        ("drawwell broker", "sources and doors in one process"),
        ("drawwell broker run", "doors alone: each source has a process of its own"),
    ),
    "broker run": (
        ("drawwell broker run", "what drawwell-broker.service runs"),
        ("drawwell broker run --supervised", "restarted if it dies, where systemd is not"),
    ),
    "link run": (
        ("drawwell link run", "what drawwell-link.service runs"),
        ("drawwell link run --verbose", "with every draw in the log"),
    ),
    "kernel run": (
        ("drawwell kernel run", "what drawwell-kernel.service runs"),
        ("drawwell kernel run --verbose", "with every delivery in the log"),
    ),
    "kernel wait": (
        ("drawwell kernel wait", "for a unit that must start after the first feed"),
        ("drawwell kernel wait --timeout 30s", "give up after 30 s"),
    ),
    "draw": (
        ("drawwell draw 32 --hex", "32 bytes as hexadecimal digits"),
        ("drawwell draw 32 -o key.bin --receipt key.receipt", "a key in a file, and a signed receipt"),
        ("drawwell draw 1MiB -o pad.bin --wait 10min", "more than the reservoir holds"),
    ),
    "seed-file": (
        ("drawwell seed-file --for web07 -o web07.seed", "a seed for one machine, once"),
        ("drawwell seed-file --for web07 --format cloud-init", "the same as cloud-init's user data"),
    ),
    "join": (
        ("drawwell join", "asks for the token that the broker's operator sent"),
        ("drawwell join --name well < token.txt", "from a file; the link is called 'well'"),
    ),
    "leave": (
        ("drawwell leave well", "undo 'drawwell join'"),
        ("drawwell leave well --json", "with what was undone, for a script"),
    ),
    "link list": (
        ("drawwell link list", "the brokers that were joined, and their states"),
        ("drawwell link list --json", "the same for a script"),
    ),
    "pki show": (
        ("drawwell pki show", "keys and when they end"),
        ("drawwell pki show --json", "the same for a script"),
    ),
    "pki rotate": (
        ("drawwell pki rotate root", "a new root; consumers follow when they renew"),
        ("drawwell pki rotate receipts", "a new key for receipts"),
    ),
    "pki export-root": (
        ("drawwell pki export-root /media/usb/root.pem", "the root's key goes into a safe"),
        ("drawwell pki import-root /media/usb/root.pem", "and comes back for a rotation"),
    ),
    "pki import-root": (
        ("drawwell pki import-root /media/usb/root.pem", "before a rotation"),
        ("drawwell pki export-root /media/usb/root2.pem", "and away again afterwards"),
    ),
    "signer run": (
        ("drawwell signer run", "what the package's unit runs"),
        ("drawwell signer run --verbose", "with more in the log"),
    ),
    "renew": (
        ("drawwell renew", "every certificate that is due"),
        ("drawwell renew well --force", "one link's, now"),
    ),
    "consumer invite": (
        ("drawwell consumer invite web01 --rate 4KiB/s --quota 10MiB/day", "a token for one machine"),
        ("drawwell consumer invite db01 --ssh-key db01.pub", "by SSH instead, with its public key"),
    ),
    "consumer list": (
        ("drawwell consumer list", "terms, invitations, certificates"),
        ("drawwell consumer list --json", "the same for a script"),
    ),
    "consumer revoke": (
        ("drawwell consumer revoke web01", "from its next draw on"),
        ("drawwell consumer revoke web01 --json", "with what was revoked, for a script"),
    ),
    "consumer quota": (
        ("drawwell consumer quota web01 --rate 8KiB/s", "a higher rate; the quota stays"),
        ("drawwell consumer quota web01 --quota none", "no quota"),
    ),
    "guest plan": (
        ("drawwell guest plan libvirt web01", "what 'apply' would do"),
        ("drawwell guest plan qemu test1 --rate 1KiB/s", "with a limit"),
    ),
    "guest apply": (
        ("drawwell guest apply libvirt web01 --rate 1KiB/s", "a virtio-rng of its own"),
        ("drawwell guest apply docker api --remove", "undo it"),
    ),
    "guest verify": (
        ("drawwell guest verify libvirt web01", "looks from inside the guest"),
        ("drawwell guest verify qemu test1 --timeout 60s", "a guest that is slow to answer"),
    ),
    "guest reseed": (
        ("drawwell guest reseed web02", "after it was cloned"),
        ("drawwell guest reseed web02 --domain web02-restored", "under its new name"),
    ),
    "guest audit": (
        ("drawwell guest audit", "all guests of this host"),
        ("drawwell guest audit libvirt", "those of libvirt"),
    ),
    "guest list": (
        ("drawwell guest list", "guests that the broker serves"),
        ("drawwell guest list --json", "the same for a script"),
    ),
    "source list": (
        ("drawwell source list", "what runs, and what is plugged in"),
        ("drawwell source list --wide", "with the stable names"),
    ),
    "source verify": (
        ("drawwell source verify", "the only source"),
        ("drawwell source verify /dev/ttyACM0", "a device by its node"),
    ),
    "source watch": (
        ("drawwell source watch", "every second, until Ctrl-C"),
        ("drawwell source watch stick --once --json", "once, for a script"),
    ),
    "source history": (
        ("drawwell source history stick", "24 hours and a year, drawn"),
        ("drawwell source history stick --json", "each minute and day, for a script"),
    ),
    "source capture": (
        ("drawwell source capture -o raw.bin", "1 MB of raw samples"),
        ("drawwell source capture stick -n 10MB -o raw.bin", "10 MB of one source"),
    ),
    "source reset": (
        ("drawwell source reset stick", "after a permanent failure"),
        ("drawwell source reset stick --json", "for a script"),
    ),
    "source simulate": (
        ("drawwell source simulate --link /tmp/onerng", "a simulated stick at /tmp/onerng"),
        ("drawwell source simulate --link /tmp/sick --fault stuck", "one that fails its tests"),
    ),
    "source units": (
        ("drawwell source units", "the units that the package starts for sources"),
        ("drawwell source units --json", "the same for a script"),
    ),
    "source run": (
        ("drawwell source run stick", "the source of that name in the configuration"),
        ("drawwell source run stick --verbose", "with more in the log"),
    ),
    "onerng acceptance": (
        ("drawwell onerng acceptance", "the only OneRNG; writes onerng-acceptance.json"),
        ("drawwell onerng acceptance /dev/ttyACM0 -o stick.json", "one by its node"),
    ),
    "onerng info": (
        ("drawwell onerng info", "the only OneRNG"),
        ("drawwell onerng info /dev/ttyACM0", "one by its node"),
    ),
    "onerng mode": (
        ("drawwell onerng mode cmd0", "avalanche noise, whitened by the device"),
        ("drawwell onerng mode cmd1 /dev/ttyACM0", "raw avalanche noise, of one stick by its node"),
    ),
    "onerng pause": (
        ("drawwell onerng pause", "stop it"),
        ("drawwell onerng resume", "start it again"),
    ),
    "onerng resume": (
        ("drawwell onerng resume", "after 'drawwell onerng pause'"),
        ("drawwell onerng resume stick", "a source by its name"),
    ),
    "onerng flush": (
        ("drawwell onerng flush", "empty the device's own pool"),
        ("drawwell onerng flush stick", "a source by its name"),
    ),
    "onerng dump": (
        ("drawwell onerng dump -o firmware.bin", "about 10 s"),
        ("drawwell onerng dump stick -o firmware.bin", "a source by its name"),
    ),
    "onerng verify": (
        ("drawwell onerng verify", "what the device shows now"),
        ("drawwell onerng verify firmware.bin", "a dump in a file"),
    ),
    "doctor": (
        ("drawwell doctor", "what is there, what is wrong, what to type"),
        ("drawwell doctor --json", "the same for a script"),
    ),
    "check": (
        ("drawwell check -c 1000 source:stick", "1,000 blocks of a running source"),
        ("drawwell draw 64KiB --raw | drawwell check -", "what was drawn"),
    ),
    "assess": (
        ("drawwell assess --report stick.html", "a million samples of the only source"),
        ("drawwell assess raw.bin --claim 7.5", "a file of samples"),
    ),
    "evidence": (
        ("drawwell evidence stick -o evidence", "a folder for an auditor"),
        ("drawwell evidence --verify evidence", "check one"),
    ),
    "receipt show": (
        ("drawwell receipt show key.receipt", "what it states"),
        ("drawwell receipt show key.receipt --json", "every field"),
    ),
    "receipt verify": (
        ("drawwell receipt verify key.receipt --data key.bin", "signature and bytes"),
        ("drawwell receipt verify key.receipt --key well.pem", "with the broker's public key"),
    ),
    "audit verify": (
        ("drawwell audit verify", "the whole log"),
        ("drawwell audit verify --receipt key.receipt", "that it still has what a receipt saw"),
    ),
    "config show": (
        ("drawwell config show --origin", "every value, and the line that it is from"),
        ("drawwell -c /tmp/drawwell.toml config show", "of another file"),
    ),
    "config check": (
        ("drawwell config check", "before a reload"),
        ("drawwell config check new.toml", "a file that is not in place yet"),
    ),
    "config sample": (
        ("drawwell config sample", "every setting, explained"),
        ("drawwell config sample > drawwell.toml", "as a file to start from"),
    ),
    "migrate": (
        ("drawwell migrate", "what is found in /etc"),
        ("drawwell migrate /etc/default/rng-tools-debian -o drawwell.toml", "one file"),
    ),
    "restore": (
        ("drawwell restore", "after the state came from a backup"),
        ("drawwell restore --revoke web01 db02", "two were revoked since the backup"),
    ),
    "report-bug": (
        ("drawwell report-bug", "a new file in this directory; keys and tokens are masked"),
        ("drawwell report-bug -o bug.txt", "a file of this name"),
    ),
    "completion": (
        ('eval "$(drawwell completion bash)"', "for this shell"),
        ("drawwell completion zsh > ~/.zfunc/_drawwell", "for every zsh"),
    ),
    "serve-stdio": (
        ("drawwell serve-stdio --consumer db01 --key SHA256:...", "a line of authorized_keys runs this"),
        ("drawwell consumer invite db01 --ssh-key db01.pub", "prints that line"),
    ),
    "help": (
        ("drawwell help draw", "the same as 'drawwell draw --help'"),
        ("drawwell help consumer invite", "of a verb"),
    ),
}  # fmt: skip


def examples_text(command: str) -> str:
    """Return the examples of a command, "" where it has none."""
    lines = [f"  {line}\n      {what}" for line, what in EXAMPLES.get(command, ())]
    return "\n".join(["\nexamples:", *lines, ""]) if lines else ""

"""Examples for the help text and the manual page of every verb."""

from typing import Final

EXAMPLES: Final = {
    "status": (
        ("drawwell status --watch", "refresh the status every second until Ctrl-C"),
        ("drawwell status --require ready --quiet", "exit with code 69 while no draw is possible"),
    ),
    "demo": (
        ("drawwell demo", "run a simulated device, a broker and two consumers"),
        ("drawwell demo --seconds 3", "run a shorter demonstration"),
    ),
    "init": (
        ("drawwell init host", "write a configuration for one machine to conf.d"),
        ("drawwell init broker -o drawwell.toml", "write a configuration for a broker to a file"),
    ),
    "fleet init": (
        ("drawwell fleet init --name site-a --store-from -", "prompt for the address of the database"),
        ("drawwell fleet init --name site-a --store-from /root/store", "read the address from a file"),
    ),
    "fleet invite": (
        ("drawwell fleet invite site-b", "print an invitation for the broker at another site"),
        ("drawwell fleet invite site-b site-c --ttl 1d", "print two invitations that are valid for a day"),
    ),
    "fleet join": (
        ("drawwell fleet join -", "prompt for the invitation"),
        ("ssh site-a drawwell fleet invite site-b | drawwell fleet join -", "pipe the invitation over SSH"),
    ),
    "fleet remove": (
        ("drawwell fleet remove site-c", "remove a broker that was permanently stopped"),
        ("drawwell fleet remove site-c --running", "remove a stolen broker"),
    ),
    "fleet status": (
        ("drawwell fleet status", "show brokers, sources, the store and suggested commands"),
        ("drawwell fleet status --watch", "refresh every second until Ctrl-C"),
        ("drawwell fleet status --json", "print the same as JSON"),
    ),
    "check-health": (
        ("drawwell check-health", "print one line for Nagios and set the exit code"),
        ("drawwell check-health --json", "print the same as JSON"),
    ),
    "run": (
        ("drawwell run", "use the first OneRNG found, without a configuration"),
        ("drawwell -c /tmp/drawwell.toml run", "use this configuration file"),
    ),
    "broker": (
        ("drawwell broker", "run sources and doors in one process"),
        ("drawwell broker run", "run only the doors; each source runs in its own process"),
    ),
    "broker run": (
        ("drawwell broker run", "run as drawwell-broker.service does"),
        ("drawwell broker run --supervised", "restart the broker if it dies, on a system without systemd"),
    ),
    "link run": (
        ("drawwell link run", "run as drawwell-link.service does"),
        ("drawwell link run --verbose", "log every draw"),
    ),
    "kernel run": (
        ("drawwell kernel run", "run as drawwell-kernel.service does"),
        ("drawwell kernel run --verbose", "log every feed"),
    ),
    "kernel wait": (
        ("drawwell kernel wait", "wait for the first feed, as drawwell-seeded.service does"),
        ("drawwell kernel wait --timeout 30s", "give up after 30 seconds"),
    ),
    "draw": (
        ("drawwell draw 32 --hex", "print 32 bytes in hexadecimal"),
        ("drawwell draw 32 -o key.bin --receipt key.receipt", "write a key and a signed receipt to files"),
        ("drawwell draw 1MiB -o pad.bin --wait 10min", "draw more than the reservoir can hold"),
    ),
    "seed-file": (
        ("drawwell seed-file --for web07 -o web07.seed", "write a single-use seed for one machine"),
        ("drawwell seed-file --for web07 --format cloud-init", "print a seed as cloud-init user data"),
    ),
    "join": (
        ("drawwell join", "prompt for the token from the broker's operator"),
        ("drawwell join --name well < token.txt", "read the token from a file and name the link 'well'"),
    ),
    "leave": (
        ("drawwell leave well", "undo 'drawwell join'"),
        ("drawwell leave well --json", "report what was undone as JSON"),
    ),
    "link list": (
        ("drawwell link list", "list the joined brokers and their states"),
        ("drawwell link list --json", "print the same as JSON"),
    ),
    "pki show": (
        ("drawwell pki show", "show keys and their expiry dates"),
        ("drawwell pki show --json", "print the same as JSON"),
    ),
    "pki rotate": (
        ("drawwell pki rotate root", "create a new root; consumers get it when they renew"),
        ("drawwell pki rotate receipts", "create a new key for receipts"),
    ),
    "pki export-root": (
        ("drawwell pki export-root /media/usb/root.pem", "move the root key to offline storage"),
        ("drawwell pki import-root /media/usb/root.pem", "import the key again before a rotation"),
    ),
    "pki import-root": (
        ("drawwell pki import-root /media/usb/root.pem", "import the root key before a rotation"),
        ("drawwell pki export-root /media/usb/root2.pem", "export the new root key afterwards"),
    ),
    "signer run": (
        ("drawwell signer run", "run as drawwell-signer.service does"),
        ("drawwell signer run --verbose", "log more detail"),
    ),
    "renew": (
        ("drawwell renew", "renew every certificate that is due"),
        ("drawwell renew well --force", "renew the certificate of one link now"),
    ),
    "consumer invite": (
        ("drawwell consumer invite web01 --rate 4KiB/s --quota 10MiB/day", "print a token for one machine"),
        ("drawwell consumer invite db01 --ssh-key db01.pub", "admit a machine over SSH by its public key"),
    ),
    "consumer list": (
        ("drawwell consumer list", "list consumers with limits, invitations and certificates"),
        ("drawwell consumer list --json", "print the same as JSON"),
    ),
    "consumer revoke": (
        ("drawwell consumer revoke web01", "refuse all further draws of this consumer"),
        ("drawwell consumer revoke web01 --json", "print as JSON what was revoked"),
    ),
    "consumer quota": (
        ("drawwell consumer quota web01 --rate 8KiB/s", "change the rate and keep the quota"),
        ("drawwell consumer quota web01 --quota none", "remove the quota"),
    ),
    "guest plan": (
        ("drawwell guest plan libvirt web01", "show what 'apply' would do"),
        ("drawwell guest plan qemu test1 --rate 1KiB/s", "plan with a rate limit"),
    ),
    "guest apply": (
        ("drawwell guest apply libvirt web01 --rate 1KiB/s", "give the guest its own virtio-rng"),
        ("drawwell guest apply docker api --remove", "undo 'apply'"),
    ),
    "guest verify": (
        ("drawwell guest verify libvirt web01", "run checks inside the guest"),
        ("drawwell guest verify qemu test1 --timeout 60s", "wait longer for a slow guest"),
    ),
    "guest reseed": (
        ("drawwell guest reseed web02", "reseed a guest after it was cloned"),
        ("drawwell guest reseed web02 --domain web02-restored", "reseed a guest that has a new name"),
    ),
    "guest audit": (
        ("drawwell guest audit", "audit all guests of this host"),
        ("drawwell guest audit libvirt", "audit only libvirt guests"),
    ),
    "guest list": (
        ("drawwell guest list", "list the guests that the broker serves"),
        ("drawwell guest list --json", "print the same as JSON"),
    ),
    "source list": (
        ("drawwell source list", "list running sources and connected devices"),
        ("drawwell source list --wide", "include stable device names"),
    ),
    "source verify": (
        ("drawwell source verify", "verify the only source"),
        ("drawwell source verify /dev/ttyACM0", "verify a device by its node"),
    ),
    "source watch": (
        ("drawwell source watch", "refresh every second until Ctrl-C"),
        ("drawwell source watch stick --once --json", "print the state once as JSON"),
    ),
    "source history": (
        ("drawwell source history stick", "draw charts of the last 24 hours and the last year"),
        ("drawwell source history stick --json", "print each minute and day as JSON"),
    ),
    "source capture": (
        ("drawwell source capture -o raw.bin", "capture 1 MB of raw samples"),
        ("drawwell source capture stick -n 10MB -o raw.bin", "capture 10 MB from one source"),
    ),
    "source reset": (
        ("drawwell source reset stick", "restart a source after a permanent failure"),
        ("drawwell source reset stick --json", "report the result as JSON"),
    ),
    "source simulate": (
        ("drawwell source simulate --link /tmp/onerng", "simulate a OneRNG at /tmp/onerng"),
        ("drawwell source simulate --link /tmp/sick --fault stuck", "simulate a device that fails its tests"),
    ),
    "source units": (
        ("drawwell source units", "list the systemd units that run sources"),
        ("drawwell source units --json", "print the same as JSON"),
    ),
    "source run": (
        ("drawwell source run stick", "run the source with this name in the configuration"),
        ("drawwell source run stick --verbose", "log more detail"),
    ),
    "onerng acceptance": (
        ("drawwell onerng acceptance", "test the only OneRNG and write onerng-acceptance.json"),
        ("drawwell onerng acceptance /dev/ttyACM0 -o stick.json", "test a device by its node"),
    ),
    "onerng info": (
        ("drawwell onerng info", "show the only OneRNG"),
        ("drawwell onerng info /dev/ttyACM0", "show a device by its node"),
    ),
    "onerng mode": (
        ("drawwell onerng mode cmd0", "select avalanche noise with the device's whitener"),
        ("drawwell onerng mode cmd1 /dev/ttyACM0", "select raw avalanche noise on one device"),
    ),
    "onerng pause": (
        ("drawwell onerng pause", "pause the device"),
        ("drawwell onerng resume", "resume the device"),
    ),
    "onerng resume": (
        ("drawwell onerng resume", "undo 'drawwell onerng pause'"),
        ("drawwell onerng resume stick", "resume a source by its name"),
    ),
    "onerng flush": (
        ("drawwell onerng flush", "empty the entropy pool of the device"),
        ("drawwell onerng flush stick", "flush a source by its name"),
    ),
    "onerng dump": (
        ("drawwell onerng dump -o firmware.bin", "save the firmware image; takes about 10 seconds"),
        ("drawwell onerng dump stick -o firmware.bin", "save the image of a source by its name"),
    ),
    "onerng verify": (
        ("drawwell onerng verify", "verify the image that the device returns"),
        ("drawwell onerng verify firmware.bin", "verify an image in a file"),
    ),
    "doctor": (
        ("drawwell doctor", "report findings, problems and the commands that fix them"),
        ("drawwell doctor --json", "print the same as JSON"),
    ),
    "check": (
        ("drawwell check -c 1000 source:stick", "test 1,000 blocks from a running source"),
        ("drawwell draw 64KiB --raw | drawwell check -", "test drawn bytes"),
    ),
    "assess": (
        ("drawwell assess --report stick.html", "assess a million samples from the only source"),
        ("drawwell assess raw.bin --claim 7.5", "assess samples from a file against a claim"),
    ),
    "evidence": (
        ("drawwell evidence stick -o evidence", "write a folder for an auditor"),
        ("drawwell evidence --verify evidence", "verify an evidence folder"),
    ),
    "receipt show": (
        ("drawwell receipt show key.receipt", "show the contents of a receipt"),
        ("drawwell receipt show key.receipt --json", "print every field as JSON"),
    ),
    "receipt verify": (
        ("drawwell receipt verify key.receipt --data key.bin", "verify the signature and the bytes"),
        ("drawwell receipt verify key.receipt --key well.pem", "verify with the broker's public key from a file"),
    ),
    "audit verify": (
        ("drawwell audit verify", "verify the whole log"),
        ("drawwell audit verify --receipt key.receipt", "check that the log still contains what a receipt refers to"),
    ),
    "config show": (
        ("drawwell config show --origin", "show every value with its file and line"),
        ("drawwell -c /tmp/drawwell.toml config show", "show another configuration file"),
    ),
    "config check": (
        ("drawwell config check", "check the configuration before a reload"),
        ("drawwell config check new.toml", "check a file before you install it"),
    ),
    "config sample": (
        ("drawwell config sample", "print all settings with explanations"),
        ("drawwell config sample > drawwell.toml", "save the sample as a starting point"),
    ),
    "migrate": (
        ("drawwell migrate", "migrate the settings found in /etc"),
        ("drawwell migrate /etc/default/rng-tools-debian -o drawwell.toml", "migrate one file"),
    ),
    "restore": (
        ("drawwell restore", "complete a restore of the state from a backup"),
        ("drawwell restore --revoke web01 db02", "also repeat two revocations that the backup lacks"),
    ),
    "report-bug": (
        ("drawwell report-bug", "write a new file here, with keys and tokens masked"),
        ("drawwell report-bug -o bug.txt", "write a file with this name"),
    ),
    "completion": (
        ('eval "$(drawwell completion bash)"', "enable completion in this shell"),
        ("drawwell completion zsh > ~/.zfunc/_drawwell", "install completion for zsh"),
    ),
    "serve-stdio": (
        ("drawwell serve-stdio --consumer db01 --key SHA256:...", "serve a consumer from a line in authorized_keys"),
        ("drawwell consumer invite db01 --ssh-key db01.pub", "print the line for authorized_keys"),
    ),
    "help": (
        ("drawwell help draw", "show the help of 'drawwell draw'"),
        ("drawwell help consumer invite", "show the help of a verb"),
    ),
}  # fmt: skip


def examples_text(command: str) -> str:
    """Return the examples of a command, or "" if it has none."""
    lines = [f"  {line}\n      {what}" for line, what in EXAMPLES.get(command, ())]
    return "\n".join(["\nexamples:", *lines, ""]) if lines else ""

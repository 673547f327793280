#!/usr/bin/perl
# A noise source of your own (docs/protocol.md, section 12).
# It reads samples from standard input, one per byte.
# Usage: my-device | examples/deposit.pl /run/drawwell/source.sock NAME
use strict;
use warnings;
use Digest::SHA qw(sha512);
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;

my ($socket, $name) = @ARGV;
my ($h, $cutoff) = (6, 6);    # claimed bits of min-entropy per sample; cutoff 1 + 30 / h (SP 800-90B 4.4.1)
my $broker = IO::Socket::UNIX->new(Peer => $socket) or die "$socket: $!\n";
my ($wanted, $state, $inbox, $last, $run, $reported) = (0, "starting", "", -1, 0, 0);
my %count = map { $_ => 0 } qw(raw_bytes tested_bytes discarded_bytes assessed_bits conditioned_bits health_failures
    health_epoch reconnects raw_rate_bytes_per_s);

sub frame { my ($type, $payload) = @_; syswrite $broker, pack("N", $type << 24 | length $payload) . $payload }

sub status {
    $reported = time;
    my %identity = (name => $name, kind => "perl", path => $socket, noise => "as deposited by its own program");
    frame(0x30, encode_json({ %count, identity => \%identity, state => $state, paused => JSON::PP::false, last_error => "" }));
}

sub samples {    # tested samples; none if a run of equal samples reached the cutoff
    read(STDIN, my $block, $_[0]) == $_[0] or die "no more samples\n";
    $count{raw_bytes} += $_[0];
    for (unpack "C*", $block) { $run = $_ == $last ? $run + 1 : 1; $last = $_; $state = "intermittent failure" if $run >= $cutoff }
    return $block if $state ne "intermittent failure";
    $count{health_failures}++; $count{discarded_bytes} += $_[0]; $run = 0;
    return "";
}

sub start {      # the start-up tests; their samples are not used
    $state = "starting"; status();
    $state = "starting" until samples(4096);
    $count{discarded_bytes} += 4096; $count{health_epoch}++; $state = "healthy"; status();
}

frame(0x01, pack("CC", 1, 1) . "perl example");
status();
while (1) {
    if (IO::Select->new($broker)->can_read($wanted ? 0 : 1)) {
        sysread($broker, $inbox, 65536, length $inbox) or die "the broker closed the connection\n";
    }
    while (length $inbox >= 4 and length $inbox >= 4 + (unpack("N", $inbox) & 0xffffff)) {
        my ($type, $size) = (unpack("C", $inbox), unpack("N", $inbox) & 0xffffff);
        my $payload = substr(substr($inbox, 0, 4 + $size, ""), 4);
        if    ($type == 0x32) { $wanted = ord $payload; start() if $state eq "starting" }         # WANT
        elsif ($type == 0x33) { start(); frame(0x33, "") }                                       # restart
        elsif ($type == 0x20) { frame(0x21, substr($payload, 0, 4) . "{}") }                     # CALL: this source has no verbs
        else                  { die "refused: $payload\n" }                                      # REFUSED, BYE
    }
    status() if time > $reported;
    next unless $wanted and $state eq "healthy";
    my $block = samples(576 / $h) or start(), next;
    $count{tested_bytes} += length $block; $count{assessed_bits} += 576; $count{conditioned_bits} += 512;
    frame(0x31, pack("Q>Q>", 576, 0) . sha512($block));                                          # DEPOSIT
}

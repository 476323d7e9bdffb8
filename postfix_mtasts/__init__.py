"""MTA-STS, DANE and TLS reporting for Postfix: the map of the house.

The knowing part takes bytes and facts and returns values.  It has no socket,
clock, random number, log or global.  The doing part is thin and has two wings:
adapters, which know the outside world, and services, which know the plan.
Only the commands join them.

The table is read by `tests/test_floors.py`, which holds the code to it: a
module imports only from lower floors, and adapters and services never import
each other.  ``*`` stands for every module of a folder.

::

    floor 12  __main__
    floor 11  cli
    floor 10  commands.*
    floor 9   adapters.*  services.*
    floor 8   ports  config
    ------    no I/O below this line
    floor 7   core.explanation
    floor 6   core.verdict_reply  core.daemon_findings  core.merging
    floor 5   core.decision  core.sessions  core.tally  core.in_force  core.in_force_record
    floor 5   core.map_diagnosis  core.main_cf_diagnosis  core.tlsrpt_diagnosis
    floor 4   core.map_line
    floor 4   core.freshness  core.facts_record  core.override_config
    floor 4   core.report_mail  core.applied  core.session_state
    floor 3   core.facts  core.overrides  core.policy_tables
    floor 3   core.tlsrpt_datagram  core.tlsrpt_report  core.schedule  core.report_uri
    floor 3   core.attempt  core.own_mail  core.detail
    floor 2   core.socketmap  core.mta_sts  core.tlsa  core.postfix_policy  core.tlsrpt_record
    floor 2   core.postfix_setup  core.host_diagnosis  core.daemon_diagnosis
    floor 2   core.report_diagnosis
    floor 2   core.config_grammar  core.endpoints
    floor 2   core.finding  core.log_line  core.postfix_log
    floor 1   core.names  core.netstring  core.taglist  core.tls_event  core.der
    floor 1   core.diagnosis
    floor 1   core.config_nodes  core.durations
    floor 1   core.utc  core.recent  core.public_address  core.meters  core.dns_outcome
    floor 0   core.errors

Below the line nothing imports asyncio, socket, ssl, threading, subprocess,
sqlite3, logging, random, time, os, pathlib, requests or dns, nor reads a clock.

One word per thing: *next-hop* (what Postfix asks), *domain* (the policy
domain), *host* (an MX host), *record* (TXT), *policy* (the HTTPS document),
*facts* (all that was learnt of one next-hop), *verdict* (the decision),
*reply* (what Postfix is told), *event* (one TLS session, from the log), *finding*
(what a session came to under one policy), *tally* (findings, counted), *report*,
*diagnosis* (what `doctor` says of one thing).
"""

__version__ = "0.1.0"

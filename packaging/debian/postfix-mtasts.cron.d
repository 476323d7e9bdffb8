# TLS reports (RFC 8460), every hour: sends those that are due, tries again those
# that failed, and is silent unless a person is needed.  Which hour of the night a
# report leaves is the program's to spread; the minute only avoids the full hour.
SHELL=/bin/sh
MAILTO=root

43 * * * * postfix-mtasts [ ! -x /usr/bin/postfix-mtasts ] || /usr/bin/postfix-mtasts report --cron

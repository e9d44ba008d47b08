#!/bin/sh
# Laravel's scheduler in a container, with its output where CloudWatch sees it.
#
#   entrypoint.sh php-fpm     the scheduler beside a main process, and restarted when it dies
#   entrypoint.sh             the scheduler alone: ECS or supervisord restarts it
#
# The scheduler is a loop that runs `schedule:run` once in every minute. Its output is the
# container's own, inherited: nothing is redirected, because an unprivileged user may not open
# /dev/stdout.
#
# When the container is stopped, the main process gets the signal at once; a run of the scheduler
# that is under way is waited for. ECS sends SIGTERM (or the image's STOPSIGNAL), and SIGKILL 30 s
# later; `stopTimeout` in the task definition allows up to 120 s on Fargate.

# What is run each minute.
: "${SCHEDULER_COMMAND:=php artisan schedule:run}"
# Who runs it, if the container runs as root. Empty: root itself.
SCHEDULER_USER=${SCHEDULER_USER-www-data}
# The minute, in seconds. Laravel wants 60; the tests are in a hurry.
: "${SCHEDULER_INTERVAL:=60}"
# How long a run may go on after the stop, in seconds: less than ECS allows.
: "${SCHEDULER_STOP_TIMEOUT:=25}"
# The wait before a loop that died is started again, in seconds. It doubles each time, up to 60.
: "${SCHEDULER_RESTART_AFTER:=1}"

stopping=
child=
sleeper=

# Sleeps until the time is over or a signal sets `stopping`. Its handler has to end the sleep.
pause() {
    sleep "$1" &
    sleeper=$!
    [ -n "$stopping" ] || wait "$sleeper"
    kill "$sleeper" 2>/dev/null
    sleeper=
}

# Waits for a child to end, and sets `status`. A trapped signal ends the wait, but not the child.
finish() {
    while
        wait "$1"
        status=$?
        kill -0 "$1" 2>/dev/null
    do
        :
    done
    # It can end just then: its own code is told by one more wait, or is known already (127).
    [ "$status" -le 128 ] || {
        wait "$1"
        again=$?
        [ "$again" -eq 127 ] || status=$again
    }
}

# ---- The loop ---------------------------------------------------------------------------

run_once() {
    if [ "$(id -u)" -eq 0 ] && [ -n "$SCHEDULER_USER" ]; then
        su -s /bin/sh "$SCHEDULER_USER" -c "$SCHEDULER_COMMAND" &
    else
        sh -c "$SCHEDULER_COMMAND" &
    fi
    child=$!
    status=0
    [ -n "$stopping" ] || {
        wait "$child"
        status=$?
    }
    # Still there: the signal to stop ended the wait.
    left=$SCHEDULER_STOP_TIMEOUT
    while kill -0 "$child" 2>/dev/null; do
        if [ "$left" -le 0 ]; then
            echo "[ERROR] Scheduler run is cut off: it went on for $SCHEDULER_STOP_TIMEOUT s after the stop"
            exit 1
        fi
        left=$((left - 1))
        sleep 1
    done
    [ "$status" -eq 0 ] || [ -n "$stopping" ] ||
        echo "[ERROR] Scheduler run ended with exit code $status"
}

loop() {
    trap 'stopping=1; [ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null' TERM INT QUIT WINCH
    # Laravel throws away what a job in the background prints, and what is printed when it ends.
    # Descriptor 9 leads past that to the log: see app/routes/console.php. It is stderr, because
    # stdout may be in the middle of a line.
    exec 9>&2
    export SCHEDULER_LOG=php://fd/9

    echo "[INFO] Starting Laravel Scheduler in background..."
    echo "[INFO] Scheduler PID: $$"
    # The minute of the start was perhaps served by the loop before this one: jobs never run twice.
    last=$(($(date +%s) / SCHEDULER_INTERVAL))
    while [ -z "$stopping" ]; do
        now=$(date +%s)
        if [ $((now / SCHEDULER_INTERVAL)) -eq "$last" ]; then
            pause $((SCHEDULER_INTERVAL - now % SCHEDULER_INTERVAL))
        else
            # A run that took longer than a minute is followed by the next one at once.
            last=$((now / SCHEDULER_INTERVAL))
            run_once
        fi
    done
}

# ---- The loop beside a main process -------------------------------------------------------

supervise() {
    trap '
        stopping=1
        [ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null
        [ -z "$child" ] || kill -s TERM "$child" 2>/dev/null
    ' TERM
    delay=$SCHEDULER_RESTART_AFTER
    while [ -z "$stopping" ]; do
        begun=$(date +%s)
        sh "$0" &
        child=$!
        [ -z "$stopping" ] || kill -s TERM "$child"
        finish "$child"
        child=
        [ -z "$stopping" ] || break
        [ $(($(date +%s) - begun)) -lt 300 ] || delay=$SCHEDULER_RESTART_AFTER
        echo "[ERROR] Scheduler loop ended with exit code $status; it starts again in $delay s"
        pause "$delay"
        delay=$((delay * 2))
        [ "$delay" -le 60 ] || delay=60
    done
}

stop() {
    stopping=$1
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
    [ -z "$supervisor" ] || kill -s TERM "$supervisor" 2>/dev/null
}

beside() {
    supervisor=
    # php-fpm and Apache end gracefully on QUIT and WINCH, which their images name as STOPSIGNAL.
    for signal in TERM INT QUIT WINCH; do
        # shellcheck disable=SC2064 # the signal's name, now
        trap "stop $signal" "$signal"
    done
    supervise &
    supervisor=$!
    "$@" &
    child=$!
    [ -z "$stopping" ] || stop "$stopping"
    finish "$child"
    child=
    main_status=$status
    # It ended by itself, perhaps: the container ends with it, so that ECS replaces the task.
    stop TERM
    finish "$supervisor"
    exit "$main_status"
}

if [ $# -gt 0 ]; then
    beside "$@"
else
    loop
fi

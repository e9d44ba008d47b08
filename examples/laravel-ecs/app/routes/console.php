<?php

// The end of routes/console.php (Laravel 11 and later; before that, schedule() in
// app/Console/Kernel.php, with $schedule->command(...) and $schedule->events()).

use Illuminate\Support\Facades\Cache;
use Illuminate\Support\Facades\Schedule;

// ---- Your tasks, such as these -----------------------------------------------------------

Schedule::command('redis:monitor')->everyFiveMinutes()->withoutOverlapping()->onOneServer()->runInBackground();
Schedule::command('notifications:delete-expired')->daily()->withoutOverlapping()->onOneServer();

// ---- How each of them ended ---------------------------------------------------------------

// From Laravel 12.4 on, DONE does not mean that a task succeeded, and for one in the background it
// has only ever meant that it was started. These callbacks know the exit code. They stand below
// all tasks: those that are defined elsewhere (withSchedule(), packages) are not among events().
//
// They print to stderr: on stdout the task's own line is still open. A task in the background ends
// in schedule:finish, whose output Laravel throws away; there SCHEDULER_LOG, which entrypoint.sh
// sets, leads to the log.
$say = function (string $line): void {
    $log = @fopen(getenv('SCHEDULER_LOG') ?: 'php://stderr', 'w') ?: STDERR;
    fwrite($log, $line.PHP_EOL);
};

foreach (Schedule::events() as $task) {
    $job = $task->command ?? $task->getSummaryForDisplay();

    $task->onSuccess(fn () => $say("[scheduler] ended {$job}"))
        ->onFailure(fn () => $say("[scheduler] failed {$job}: exit code {$task->exitCode}"));
}

// ---- For routes/health.php ------------------------------------------------------------------

// It is also the line of every minute that the watchdog waits for, with --whisper, too.
Schedule::call(fn () => Cache::put('scheduler:last_run', now()->getTimestamp()))
    ->name('scheduler:heartbeat')
    ->everyMinute()
    ->evenInMaintenanceMode();

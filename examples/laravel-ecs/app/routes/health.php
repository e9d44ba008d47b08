<?php

// GET /health/scheduler: 200 while the scheduler runs, 503 once it has not run for five minutes.
// In bootstrap/app.php (Laravel 11 and later), so that it has neither session nor CSRF:
//
//     ->withRouting(..., then: fn () => Route::group([], base_path('routes/health.php')))
//
// The cache must be one that the scheduler and the web processes share, such as Redis.

use Illuminate\Support\Carbon;
use Illuminate\Support\Facades\Cache;
use Illuminate\Support\Facades\Route;

Route::get('/health/scheduler', function () {
    try {
        $lastRun = Cache::get('scheduler:last_run');
    } catch (Throwable $error) {
        report($error);
        $lastRun = null;
    }

    // Redis gives numbers back as text.
    $lastRun = $lastRun === null ? null : (int) $lastRun;
    $healthy = $lastRun !== null && now()->getTimestamp() - $lastRun <= 300;

    return response()->json([
        'status' => $healthy ? 'healthy' : 'unhealthy',
        'last_run' => $lastRun === null ? null : Carbon::createFromTimestampUTC($lastRun)->toIso8601String(),
    ], $healthy ? 200 : 503)->header('Cache-Control', 'no-store');
});

// progress.h: what people watch while they wait (a bar on a terminal, a plain line now and then in
// a file), and how they end it.
#pragma once
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <unistd.h>

// Ctrl-C, the SIGTERM of a scheduler, the SIGHUP of a closed terminal and the SIGPIPE of
// one who reads no more (train ... | head): while a CatchInterrupt lives they only set
// `interrupted`, and end the waiting for input. For work that has something to save or to
// clear away. A second Ctrl-C ends the program at once, if it comes half a second after the
// first: `timeout -s INT` sends one to the process and one to its group.
inline volatile std::sig_atomic_t interrupted = 0;
struct CatchInterrupt {
    inline static const char *notice = "";               // what the first of them says
    static void all(void (*handler)(int)) {
        struct sigaction action = {}, before;            // no SA_RESTART
        action.sa_handler = handler;
        sigaction(SIGTERM, &action, nullptr);
        for (int signal : {SIGHUP, SIGPIPE}) {
            sigaction(signal, nullptr, &before);
            if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);   // not under nohup
        }
        sigaction(SIGINT, &action, nullptr);
    }
    explicit CatchInterrupt(const char *says = "") {
        notice = says;
        all([](int signal) {
            static timespec first;
            timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            if (!interrupted) {
                first = now;
                if (write(STDERR_FILENO, notice, strlen(notice)) < 0) notice = "";
            } else if (signal == SIGINT &&
                       now.tv_sec - first.tv_sec + (now.tv_nsec - first.tv_nsec) * 1e-9 > 0.5) {
                std::signal(SIGINT, SIG_DFL);            // delivered when this handler returns
                raise(SIGINT);
            }
            interrupted = 1;
        });
    }
    ~CatchInterrupt() {
        if (!interrupted) all(SIG_DFL);
    }
};
struct Interrupted {};                                   // thrown where nothing is to be saved; exit code 130

class Progress {
public:
    // patience: how many seconds nothing is drawn, for work that may be over by then.
    Progress(long from, long total, double patience = 0)
        : first(from), total(total), patience(patience), terminal(isatty(1)) {}

    // done of total; `text` says how it goes ("loss 2.31"). Cheap: draws at most ten times a second.
    void update(long done, const std::string &text) {
        const double now = seconds(), pause = terminal ? 0.1 : 10;
        if (!drawn && now < patience) return;
        if (done < total && drawn && now - last < pause) return;
        last = now;
        drawn = true;
        const double left = done > first ? now / (done - first) * (total - done) : 0;
        char time[32];
        if (done > first || done == total)
            snprintf(time, sizeof time, "%ld:%02ld", (long)left / 60, (long)left % 60);
        else snprintf(time, sizeof time, "?");
        if (!terminal) {
            printf("%ld/%ld  %s  ETA %s\n", done, total, text.c_str(), time);
        } else {
            const int width = 24, full = total ? (int)(width * done / total) : width;
            printf("\r\033[K[%s%s] %ld/%ld  %s  ETA %s", std::string(full, '#').c_str(),
                   std::string(width - full, '.').c_str(), done, total, text.c_str(), time);
        }
        fflush(stdout);
    }
    // A line of its own above the bar.
    void say(const std::string &line) {
        printf("%s%s\n", terminal && drawn ? "\r\033[K" : "", line.c_str());
        fflush(stdout);
    }
    ~Progress() {
        if (terminal && drawn) printf("\n");
    }
    double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

private:
    long first, total;
    double patience;
    bool terminal, drawn = false;
    double last = 0;
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

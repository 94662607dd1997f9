// folder.cpp: the lock of a run's folder, and the name that a folder gets last.
#include "src/base/folder.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/base/error.h"
#include "src/base/files.h"

namespace fs = std::filesystem;

OwnFolder::OwnFolder(const std::string &path, const std::vector<std::string> &files) : path(path) {
    std::error_code cannot;
    made = fs::create_directories(path, cannot);
    expect(!fs::exists(path) || fs::is_directory(path), path, ": cannot be made: a file is there");
    expect(fs::is_directory(path), path, ": cannot be made: ", cannot.message());
    file = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    expect(file >= 0, path, ": cannot be opened: ", strerror(errno));
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        const bool taken = errno == EWOULDBLOCK;
        const std::string cause = taken ? "another run is writing there" : strerror(errno);
        close(file);
        fail(path + ": " + cause, taken ? "wait for its end, or choose another folder" : "");
    }
    for (const auto &entry : fs::directory_iterator(path))
        for (const std::string &name : files)
            if (AtomicFile::is_temporary(entry.path().filename().string(), name))
                fs::remove(entry.path(), cannot);
    try {
        for (const std::string &name : files) AtomicFile(path + "/" + name).write("can it be written?", 18);
    } catch (const Error &) {
        close(file);
        throw;
    }
}

OwnFolder::~OwnFolder() {
    std::error_code not_empty;
    if (made) fs::remove(path, not_empty);
    close(file);                                         // the lock goes with it
}

AtomicFolder::AtomicFolder(const std::string &name) {
    std::error_code none;
    path = fs::weakly_canonical(name, none);             // a link stays; no slash at the end
    if (path.ends_with('/')) path.pop_back();
    if (fs::exists(path) && !(fs::is_directory(path) && fs::is_empty(path)))
        fail(name + ": is there and no empty folder", "choose another folder, or remove it");
    temporary = cat(path, ".tmp-", getpid());
    if (mkdir(temporary.c_str(), 0777) == 0) return;
    temporary.clear();
    refuse("be made");
}

AtomicFolder::~AtomicFolder() {
    std::error_code none;
    if (!temporary.empty()) fs::remove_all(temporary, none);
}

void AtomicFolder::refuse(const std::string &action) {
    fail(cat(path, ": cannot ", action, ": ", strerror(errno)));
}

void AtomicFolder::write(const std::string &file, std::string_view text) {
    std::ofstream out(temporary + "/" + file, std::ios::binary);
    out.write(text.data(), (std::streamsize)text.size());
    if (!out.flush()) refuse("be written");
}

// All files go to the disk at once: one by one, many small ones take minutes.
void AtomicFolder::commit() {
    sync();
    if (rename(temporary.c_str(), path.c_str()) != 0) refuse("get its name");
    temporary.clear();
}

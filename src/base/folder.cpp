// folder.cpp: the lock of a run's folder.
#include "src/base/folder.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
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

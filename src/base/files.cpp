// files.cpp: system calls, each with its error told.
#include "src/base/files.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "src/base/error.h"

bool is_directory(const std::string &path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool exists(const std::string &path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0;
}

// A plain file, open for reading until the end of the scope.
struct Input {
    int file;
    size_t size = 0;

    explicit Input(const std::string &path) {
        file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);      // a pipe must not make us wait
        expect(file >= 0, path, ": cannot be read: ", std::strerror(errno));
        struct stat info = {};
        const bool known = ::fstat(file, &info) == 0;
        size = size_t(info.st_size);
        if (known && S_ISREG(info.st_mode)) return;
        ::close(file);
        fail(cat(path, S_ISDIR(info.st_mode) ? ": is a directory, not a file" : ": is not a plain file"));
    }
    ~Input() { ::close(file); }
};

Mapping::Mapping(const std::string &path) {
    const Input input(path);
    expect(input.size > 0, path, ": is empty");
    void *pages = ::mmap(nullptr, input.size, PROT_READ, MAP_PRIVATE, input.file, 0);
    expect(pages != MAP_FAILED, path, ": cannot be mapped into memory: ", std::strerror(errno));
    size = input.size;
    data = static_cast<const uint8_t *>(pages);
}

Mapping::Mapping(Mapping &&other) noexcept
    : data(std::exchange(other.data, nullptr)), size(std::exchange(other.size, 0)) {}

Mapping &Mapping::operator=(Mapping &&other) noexcept {
    std::swap(data, other.data);
    std::swap(size, other.size);
    return *this;
}

Mapping::~Mapping() {
    if (data) ::munmap(const_cast<uint8_t *>(data), size);
}

std::string read_text(const std::string &path, size_t limit) {
    const Input input(path);
    expect(input.size <= limit, path, ": has ", input.size, " bytes; at most ", limit, " are read");
    std::string text(input.size, '\0');
    for (size_t done = 0; done < text.size();) {
        const ssize_t n = ::read(input.file, &text[done], text.size() - done);
        if (n < 0 && errno == EINTR) continue;
        expect(n >= 0, path, ": cannot be read: ", std::strerror(errno));
        expect(n > 0, path, ": became shorter while it was read");
        done += size_t(n);
    }
    return text;
}

static std::string directory_of(const std::string &path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// What a chain of symbolic links leads to, be it there or not: a link is to stay, and its target to change.
static std::string behind_links(std::string path) {
    std::error_code none;
    for (int links = 0; std::filesystem::is_symlink(path, none); links++) {
        expect(links < 40, path, ": symbolic links in a circle");
        const std::string target = std::filesystem::read_symlink(path, none);
        path = target.starts_with('/') ? target : directory_of(path) + "/" + target;
    }
    return path;
}

// The temporary file is in the directory of its target, for a rename cannot cross file systems. A target that
// is there and no plain file is refused: the rename would replace /dev/null itself.
AtomicFile::AtomicFile(const std::string &name) : path(behind_links(name)) {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
        fail(cat(path, ": is not a plain file, so it cannot be replaced"));
    for (int attempt = 0; file < 0; attempt++) {
        temporary = cat(path, ".tmp-", ::getpid(), "-", attempt);
        file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 && (errno != EEXIST || attempt == 1000)) {
            temporary.clear();                              // not ours: leave it
            refuse("be written");
        }
    }
}

bool AtomicFile::is_temporary(const std::string &name, const std::string &of) {
    return name.starts_with(of + ".tmp-") &&
           name.find_first_not_of("0123456789-", of.size() + 5) == std::string::npos;
}

AtomicFile::~AtomicFile() {
    if (file >= 0) ::close(file);
    if (!temporary.empty()) ::unlink(temporary.c_str());
}

void AtomicFile::refuse(const char *action) {
    const int cause = errno;
    fail(cat(path, ": cannot ", action, ": ", std::strerror(cause)),
         cause == ENOSPC || cause == EDQUOT ? "free some space or choose another place" : "");
}

void AtomicFile::write(const void *data, size_t bytes) {
    assert(file >= 0);
    for (const char *next = static_cast<const char *>(data); bytes > 0;) {
        const ssize_t n = ::write(file, next, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) refuse("be written");
        next += n;
        bytes -= size_t(n);
    }
}

void AtomicFile::commit() {
    assert(file >= 0);
    if (::fsync(file) != 0) refuse("be brought to the disk");
    if (::close(std::exchange(file, -1)) != 0) refuse("be closed");
    if (::rename(temporary.c_str(), path.c_str()) != 0) refuse("get its name");
    temporary.clear();
    const int directory = ::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;                              // best effort: the file is whole either way
    ::fsync(directory);
    ::close(directory);
}

void write_atomically(const std::string &path, std::string_view text) {
    AtomicFile file(path);
    file.write(text.data(), text.size());
    file.commit();
}

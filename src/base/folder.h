// folder.h: a folder that a run writes into, found to be writable before the run begins,
// and its alone while it lives; and one that appears when all is written.
#pragma once
#include <string>
#include <string_view>
#include <vector>

class OwnFolder {
public:
    // Makes it if it is not there; an Error if one of these files cannot be written there, or if it belongs
    // to a run that still lives. What runs that were killed left half written of them is removed.
    OwnFolder(const std::string &path, const std::vector<std::string> &files);
    OwnFolder(const OwnFolder &) = delete;
    ~OwnFolder();

private:
    std::string path;
    bool made = false;               // here, and empty: it goes again
    int file = -1;
};

// A folder of files that appears whole or not at all, as an AtomicFile does.
class AtomicFolder {
public:
    explicit AtomicFolder(const std::string &name);      // refuses one that is there and not empty
    AtomicFolder(const AtomicFolder &) = delete;
    ~AtomicFolder();
    void write(const std::string &file, std::string_view text);
    void commit();

private:
    [[noreturn]] void refuse(const std::string &action);
    std::string path, temporary;
};

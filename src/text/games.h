// games.h: synthetic corpora whose rule is known, and so the best that a model can do:
// --data NAME[:key=value,...].
//
//   facts    what parameters must store             recall, needle   what must be found in the context
//   factors  what must be combined                  bytes            text whose loss falls like a power law
//
// A sequence is a pure function of (seed, index), so a game has no end. The world that its sequences tell
// of (which facts hold, how the grammar goes on) depends on the key `world` alone: seeds differ in what
// they tell of it, and what is held out are sequences from a random stream of their own.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "src/base/random.h"

struct Tokenizer;

struct Sample {                                          // a sequence, and what is known of it
    std::vector<int> ids = {};
    std::vector<real> weight = {};                       // of each token as a target; empty: 1 each
    std::vector<int> starts = {};                        // where further documents begin
    std::string kind = {};                               // its loss is reported apart; empty: it is not
    int topic = -1;                                    // what it is about; of factors: (topic, style, format)
};

// One more document behind those that s holds. Its prompt is read, its output is learned.
void pack(Sample &s, const std::vector<int> &prompt, const std::vector<int> &output);

class Game {
public:
    std::string name;                                    // facts, ...
    std::vector<std::string> words;                      // id -> what the token is called
    std::vector<std::string> kinds;                      // that its sequences may have
    bool is_text = false;                                // words are bytes
    int V() const { return (int)words.size(); }
    Sample sample(uint64_t seed, long index, int T) const;      // of T+1 tokens
    Sample held_out(long index, int T) const;
    std::string shown(const Sample &) const;             // in words; in brackets what is asked, if not all is
    virtual Tokenizer tokenizer() const;                 // a token a word; blanks between them are nothing

    // Nats of all its targets, by their weights, for one who knows the world and sees what comes before; NaN:
    // nobody has computed it.
    virtual double optimum(const Sample &) const = 0;
    virtual ~Game() = default;

protected:
    std::map<std::string, double> key;
    int shortest = 1;                                    // context that it needs
    explicit Game(const std::map<std::string, double> &key) : key(key) {}
    virtual Sample play(Random &, long index, int T, bool training) const = 0;
    int add_words(const std::string &stem, int n);       // the first one's id

private:
    Sample played(Random, long index, int T, bool training) const;
};

std::shared_ptr<const Game> load_game(const std::string &data);    // NAME[:key=value,...]; null: no such NAME
std::vector<std::string> game_names();
// A further game, of a higher floor.
struct Key {
    const char *name;
    double value, low, high;                             // value: if none is given
    bool whole;
    const char *help;
};
using Keys = std::map<std::string, double>;
void add_game(const std::string &name, const std::vector<Key> &,
              const std::function<std::shared_ptr<Game>(const Keys &)> &make);
std::vector<int> fact(int world, int k);                 // of the game `facts`: a, b, r, v

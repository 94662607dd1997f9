// picture.cpp: see picture.h.
#include "src/lab/picture.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>

#include "src/base/error.h"
#include "src/lab/engine.h"

Curve curve_of(const std::string &name, const std::vector<std::string> &folders, const std::string &column) {
    constexpr size_t most = 60;
    Curve curve = {name, {}, {}, {}, {}};
    std::map<size_t, Values> at;                         // the runs' means, by part
    Values first;
    for (const std::string &folder : folders) {
        const Values step = column_of("step", folder), y = column_of(column, folder);
        const size_t parts = std::min(most, y.size());   // a column with empty cells: evenly over the steps
        for (size_t p = 0; p < parts; p++) {
            const size_t from = p * y.size() / parts, to = (p + 1) * y.size() / parts;
            at[p].push_back(mean(Values(y.begin() + from, y.begin() + to)));
            if (&folder == &folders[0]) first.push_back(step.back() * (double)to / y.size());
        }
    }
    for (const auto &[part, y] : at) {
        if (part >= first.size()) break;
        curve.x.push_back(first[part]);
        curve.mean.push_back(mean(y));
        curve.low.push_back(*std::min_element(y.begin(), y.end()));
        curve.high.push_back(*std::max_element(y.begin(), y.end()));
    }
    return curve;
}

std::string curves_csv(const std::vector<Curve> &curves) {
    std::ostringstream out;
    out << "arm,step,mean,low,high\n" << std::setprecision(6);
    for (const Curve &c : curves)
        for (size_t i = 0; i < c.x.size(); i++)
            out << c.name << "," << c.x[i] << "," << c.mean[i] << "," << c.low[i] << "," << c.high[i] << "\n";
    return out.str();
}

// ----------------------------------------------------------------------------------------------- the picture
namespace {
struct Axis {                                            // from numbers to places
    double low, high, from, to;
    double operator()(double x) const { return from + (x - low) / (high - low) * (to - from); }
    // Round numbers inside: steps of 1, 2 or 5 times a power of ten.
    Values ticks() const {
        const double rough = (high - low) / 5, power = std::pow(10, std::floor(std::log10(rough)));
        const double step = power * (rough / power < 1.5   ? 1
                                     : rough / power < 3.5 ? 2
                                     : rough / power < 7.5 ? 5
                                                           : 10);
        Values list;
        for (double x = std::ceil(low / step) * step; x <= high * (1 + 1e-9); x += step) list.push_back(x);
        return list;
    }
};

const char *const colours[] = {"#4269d0", "#efb118", "#ff725c", "#3ca951",
                               "#a463f2", "#9c6b4e", "#6cc5b0", "#97bbf5"};
constexpr double width = 720, height = 420, left = 64, right = 168, top = 40, bottom = 48;
}  // namespace

static std::string escaped(const std::string &text) {
    std::string out;
    for (char c : text) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
    return out;
}

static Axis axis_of(const std::vector<Curve> &curves, Values Curve::*low, Values Curve::*high, double from,
                    double to) {
    double least = INFINITY, most = -INFINITY;
    for (const Curve &c : curves) {
        for (double x : c.*low) least = std::min(least, x);
        for (double x : c.*high) most = std::max(most, x);
    }
    if (!(most > least)) most = least + 1;
    return {least, most, from, to};
}

static std::string grid(const Axis &x, const Axis &y) {
    std::ostringstream out;
    for (double t : x.ticks())
        out << "<line x1='" << x(t) << "' x2='" << x(t) << "' y1='" << y.to << "' y2='" << y.from
            << "' class='grid'/><text x='" << x(t) << "' y='" << y.from + 18 << "' text-anchor='middle'>" << t
            << "</text>\n";
    for (double t : y.ticks())
        out << "<line x1='" << x.from << "' x2='" << x.to << "' y1='" << y(t) << "' y2='" << y(t)
            << "' class='grid'/><text x='" << x.from - 8 << "' y='" << y(t) + 4 << "' text-anchor='end'>" << t
            << "</text>\n";
    return out.str();
}

static std::string path_of(const Curve &c, const Axis &x, const Axis &y, const char *colour) {
    std::ostringstream band, line;
    for (size_t i = 0; i < c.x.size(); i++) band << (i ? " L" : "M") << x(c.x[i]) << " " << y(c.high[i]);
    for (size_t i = c.x.size(); i-- > 0;) band << " L" << x(c.x[i]) << " " << y(c.low[i]);
    for (size_t i = 0; i < c.x.size(); i++) line << (i ? " L" : "M") << x(c.x[i]) << " " << y(c.mean[i]);
    return cat("<path d='", band.str(), " Z' fill='", colour, "' opacity='0.2'/>\n<path d='", line.str(),
               "' fill='none' stroke='", colour, "' stroke-width='2'/>\n");
}

std::string picture_of(const std::string &title, const std::string &x_name, const std::string &y_name,
                       const std::vector<Curve> &curves) {
    const Axis x = axis_of(curves, &Curve::x, &Curve::x, left, width - right);
    const Axis y = axis_of(curves, &Curve::low, &Curve::high, height - bottom, top);
    std::ostringstream out;
    out << std::setprecision(5) << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " "
        << height
        << "' font-family='sans-serif' "
           "font-size='12'>\n<style>text{fill:#555}.grid{stroke:#999;stroke-opacity:.25}"
           "@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>\n"
        << "<text x='" << left << "' y='22' font-size='14'>" << escaped(title) << "</text>\n"
        << grid(x, y);
    for (size_t i = 0; i < curves.size(); i++) {
        const char *colour = colours[i % std::size(colours)];
        const double at = top + 18 * (double)i;
        out << path_of(curves[i], x, y, colour) << "<rect x='" << width - right + 14 << "' y='" << at
            << "' width='12' height='4' fill='" << colour << "'/><text x='" << width - right + 32 << "' y='"
            << at + 7 << "'>" << escaped(curves[i].name) << "</text>\n";
    }
    out << "<text x='" << (left + width - right) / 2 << "' y='" << height - 10 << "' text-anchor='middle'>"
        << escaped(x_name) << "</text><text transform='translate(16 " << (top + height - bottom) / 2
        << ") rotate(-90)' text-anchor='middle'>" << escaped(y_name) << "</text>\n</svg>\n";
    return out.str();
}

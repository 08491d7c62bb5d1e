// What stands around the network: pictures to its input, its output to boxes. C++17, the standard library only.
//
// The rules are those of spec.json, and the results are those of OpenCV's INTER_LINEAR and of the Python program to the
// last bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace detector {

// RGB, one byte each, row by row.
struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> data;
};

// Where a picture lies on the canvas, in pixels.
struct Place {
  int width, height, content_width, content_height, left, top;
};

struct Thresholds {
  double confidence = 0.25, iou = 0.65;
  std::size_t max_detections = 300, max_candidates = 30000;
};

// x1, y1, x2, y2 in pixels of the picture.
struct Detection {
  int label;
  float score;
  double box[4];
};

// Fit a picture into a canvas: as large as fits, in the middle; whole numbers only, so that all languages agree.
inline Place place(int width, int height, int target_width, int target_height) {
  using Wide = long long;
  Place where{width, height, target_width, target_height, 0, 0};
  if (Wide(target_width) * height <= Wide(target_height) * width)
    where.content_height = int(std::max<Wide>(1, Wide(target_width) * height / width));
  else
    where.content_width = int(std::max<Wide>(1, Wide(target_height) * width / height));
  where.left = (target_width - where.content_width) / 2;
  where.top = (target_height - where.content_height) / 2;
  return where;
}

struct Tap {
  int first, second, weight_first, weight_second;
};

// For each of `count` places the two neighbours among `size` and their weights in 2048ths; columns outside count as the
// last one.
inline std::vector<Tap> taps(int size, int count, bool is_column) {
  const double scale = 1.0 / (double(count) / size);
  const auto inside = [size](int index) { return std::min(std::max(index, 0), size - 1); };
  std::vector<Tap> found(count);
  for (int place = 0; place < count; ++place) {
    const float position = float((place + 0.5) * scale - 0.5);
    int first = int(std::floor(position));
    float part = position - float(first);
    if (is_column && (first < 0 || first >= size - 1)) {
      first = first < 0 ? 0 : size - 1;
      part = 0;
    }
    found[place] = {inside(first), inside(first + 1), int(std::nearbyint((1.0f - part) * 2048.0f)),
                    int(std::nearbyint(part * 2048.0f))};
  }
  return found;
}

// Bilinear without antialias, as OpenCV's INTER_LINEAR does it for bytes.
inline Picture resize(const Picture& picture, int width, int height) {
  if (width == picture.width && height == picture.height) return picture;
  const auto across = taps(picture.width, width, true), down = taps(picture.height, height, false);
  const auto sums = [&](int y, std::vector<int>& row) {
    const std::uint8_t* line = picture.data.data() + std::size_t(y) * picture.width * 3;
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        row[x * 3 + c] =
            line[across[x].first * 3 + c] * across[x].weight_first + line[across[x].second * 3 + c] * across[x].weight_second;
  };
  Picture resized{width, height, std::vector<std::uint8_t>(std::size_t(width) * height * 3)};
  std::vector<int> upper(std::size_t(width) * 3), lower(upper.size());
  int upper_is = -1, lower_is = -1;
  for (int y = 0; y < height; ++y) {
    const Tap& tap = down[y];
    if (tap.first == lower_is) {
      std::swap(upper, lower);
      std::swap(upper_is, lower_is);
    }
    if (tap.first != upper_is) sums(upper_is = tap.first, upper);
    if (tap.second != lower_is) sums(lower_is = tap.second, lower);
    std::uint8_t* line = resized.data.data() + std::size_t(y) * width * 3;
    for (int i = 0; i < width * 3; ++i) {
      const int above = (tap.weight_first * (upper[i] >> 4)) >> 16, below = (tap.weight_second * (lower[i] >> 4)) >> 16;
      line[i] = std::uint8_t((above + below + 2) >> 2);
    }
  }
  return resized;
}

// Draw a picture on a grey canvas.
inline Picture letterbox(const Picture& picture, int target_width, int target_height, Place& where, int fill = 114) {
  where = place(picture.width, picture.height, target_width, target_height);
  const Picture content = resize(picture, where.content_width, where.content_height);
  Picture canvas{target_width, target_height,
                 std::vector<std::uint8_t>(std::size_t(target_width) * target_height * 3, std::uint8_t(fill))};
  for (int y = 0; y < where.content_height; ++y)
    std::copy_n(content.data.begin() + std::size_t(y) * where.content_width * 3, where.content_width * 3,
                canvas.data.begin() + (std::size_t(where.top + y) * target_width + where.left) * 3);
  return canvas;
}

// A canvas as [3, H, W] from 0 to 1.
inline std::vector<float> to_input(const Picture& canvas) {
  const std::size_t plane = std::size_t(canvas.width) * canvas.height;
  std::vector<float> input(3 * plane);
  for (std::size_t i = 0; i < plane; ++i)
    for (std::size_t c = 0; c < 3; ++c) input[c * plane + i] = float(canvas.data[i * 3 + c]) / 255.0f;
  return input;
}

struct Candidate {
  std::size_t anchor;
  int label;
  float score;
  double corners[4];
};

inline double overlap(const double (&a)[4], const double (&b)[4]) {
  const double width = std::max(0.0, std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const double height = std::max(0.0, std::min(a[3], b[3]) - std::max(a[1], b[1]));
  const double areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]);
  return width * height / (areas - width * height);
}

// From the network's output to boxes on the picture, best first. `output` is [rows, anchors] with rows = 4 + classes:
// centre x, centre y, width, height in pixels of the canvas, then one probability per class.
inline std::vector<Detection> detect(const float* output, std::size_t rows, std::size_t anchors, const Place& where,
                                     const Thresholds& nms) {
  std::vector<Candidate> candidates;
  for (std::size_t anchor = 0; anchor < anchors; ++anchor)
    for (std::size_t label = 0; label + 4 < rows; ++label) {
      const float score = output[(4 + label) * anchors + anchor];
      if (score > float(nms.confidence)) candidates.push_back({anchor, int(label), score, {}});
    }
  // Equal scores keep the order of anchors, then classes.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  if (candidates.size() > nms.max_candidates) candidates.resize(nms.max_candidates);
  std::vector<Candidate> kept;
  for (Candidate& candidate : candidates) {
    if (kept.size() == nms.max_detections) break;
    for (int axis = 0; axis < 2; ++axis) {
      const float centre = output[axis * anchors + candidate.anchor];
      const float half = output[(2 + axis) * anchors + candidate.anchor] / 2;
      candidate.corners[axis] = float(centre - half);
      candidate.corners[2 + axis] = float(centre + half);
    }
    if (!std::all_of(candidate.corners, candidate.corners + 4, [](double value) { return std::isfinite(value); })) continue;
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Candidate& other) {
      return other.label == candidate.label && overlap(other.corners, candidate.corners) > nms.iou;
    });
    if (!covered) kept.push_back(candidate);
  }
  std::vector<Detection> found;
  for (const Candidate& candidate : kept) {
    Detection detection{candidate.label, candidate.score, {}};
    for (int i = 0; i < 4; ++i) {
      const bool across = i % 2 == 0;
      const double shifted = candidate.corners[i] - (across ? where.left : where.top);
      const double side = across ? where.width : where.height;
      const double value = shifted * side / (across ? where.content_width : where.content_height);
      detection.box[i] = std::min(std::max(value, 0.0), side);
    }
    const bool visible = detection.box[2] > detection.box[0] && detection.box[3] > detection.box[1];
    if (visible) found.push_back(detection);  // not wholly on the grey border
  }
  return found;
}

}  // namespace detector

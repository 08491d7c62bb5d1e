// What stands around the network: pictures to its input, its output to boxes. The core library only, C# 7 or newer.
//
// The rules are those of spec.json, and the results are those of OpenCV's INTER_LINEAR and of the Python program to the
// last bit.
using System;
using System.Collections.Generic;
using System.Linq;

namespace Detector
{
    /// <summary>RGB, one byte each, row by row.</summary>
    public sealed class Picture
    {
        public readonly int Width, Height;
        public readonly byte[] Data;

        public Picture(int width, int height, byte[] data)
        {
            if (data.Length != width * height * 3) throw new ArgumentException("a picture has three bytes per pixel");
            Width = width;
            Height = height;
            Data = data;
        }
    }

    /// <summary>Where a picture lies on the canvas, in pixels.</summary>
    public sealed class Place
    {
        public int Width, Height, ContentWidth, ContentHeight, Left, Top;

        /// <summary>Fit a picture into a canvas: as large as fits, in the middle; in whole numbers.</summary>
        public static Place Fit(int width, int height, int targetWidth, int targetHeight)
        {
            var where = new Place
            {
                Width = width, Height = height, ContentWidth = targetWidth, ContentHeight = targetHeight
            };
            if ((long)targetWidth * height <= (long)targetHeight * width)
                where.ContentHeight = (int)Math.Max(1, (long)targetWidth * height / width);
            else
                where.ContentWidth = (int)Math.Max(1, (long)targetHeight * width / height);
            where.Left = (targetWidth - where.ContentWidth) / 2;
            where.Top = (targetHeight - where.ContentHeight) / 2;
            return where;
        }
    }

    public sealed class Thresholds
    {
        public double Confidence = 0.25, Iou = 0.65;
        public int MaxDetections = 300, MaxCandidates = 30000;
    }

    /// <summary>Box: x1, y1, x2, y2 in pixels of the picture.</summary>
    public sealed class Detection
    {
        public int Label;
        public float Score;
        public double[] Box;
    }

    public static class Steps
    {
        private struct Tap
        {
            public int First, Second, WeightFirst, WeightSecond;
        }

        private sealed class Candidate
        {
            public int Anchor, Label;
            public float Score;
            public double[] Corners;
        }

        /// <summary>Draw a picture on a grey canvas.</summary>
        public static Picture Letterbox(Picture picture, int width, int height, out Place where, byte fill = 114)
        {
            where = Place.Fit(picture.Width, picture.Height, width, height);
            var content = Resize(picture, where.ContentWidth, where.ContentHeight);
            var data = new byte[width * height * 3];
            for (int i = 0; i < data.Length; i++) data[i] = fill;
            int row = where.ContentWidth * 3;
            for (int y = 0; y < where.ContentHeight; y++)
                Array.Copy(content.Data, y * row, data, ((where.Top + y) * width + where.Left) * 3, row);
            return new Picture(width, height, data);
        }

        /// <summary>Bilinear without antialias, as OpenCV's INTER_LINEAR does it for bytes: weights in 2048ths.</summary>
        public static Picture Resize(Picture picture, int width, int height)
        {
            if (width == picture.Width && height == picture.Height) return picture;
            Tap[] across = Taps(picture.Width, width, true), down = Taps(picture.Height, height, false);
            var data = new byte[width * height * 3];
            int[] upper = new int[width * 3], lower = new int[width * 3];
            int upperIs = -1, lowerIs = -1;
            for (int y = 0; y < height; y++)
            {
                Tap tap = down[y];
                if (tap.First == lowerIs)
                {
                    var other = upper;
                    upper = lower;
                    lower = other;
                    lowerIs = upperIs;
                    upperIs = tap.First;
                }
                if (tap.First != upperIs) Sum(picture, upperIs = tap.First, across, upper);
                if (tap.Second != lowerIs) Sum(picture, lowerIs = tap.Second, across, lower);
                for (int i = 0; i < width * 3; i++)
                {
                    int above = (tap.WeightFirst * (upper[i] >> 4)) >> 16;
                    int below = (tap.WeightSecond * (lower[i] >> 4)) >> 16;
                    data[y * width * 3 + i] = (byte)((above + below + 2) >> 2);
                }
            }
            return new Picture(width, height, data);
        }

        private static void Sum(Picture picture, int y, Tap[] across, int[] sums)
        {
            int start = y * picture.Width * 3;
            for (int x = 0; x < across.Length; x++)
                for (int c = 0; c < 3; c++)
                    sums[x * 3 + c] = picture.Data[start + across[x].First * 3 + c] * across[x].WeightFirst
                        + picture.Data[start + across[x].Second * 3 + c] * across[x].WeightSecond;
        }

        /// <summary>The two neighbours of each of `count` places and their weights; columns outside count as the last one.</summary>
        private static Tap[] Taps(int size, int count, bool isColumn)
        {
            double scale = 1.0 / ((double)count / size);
            var taps = new Tap[count];
            for (int place = 0; place < count; place++)
            {
                // Explicit conversions: an intermediate result may otherwise have more digits than a float.
                float position = (float)((place + 0.5) * scale - 0.5);
                int first = (int)Math.Floor(position);
                float part = (float)(position - first);
                if (isColumn && (first < 0 || first >= size - 1))
                {
                    first = first < 0 ? 0 : size - 1;
                    part = 0;
                }
                float rest = (float)(1.0f - part);
                taps[place] = new Tap
                {
                    First = Math.Min(Math.Max(first, 0), size - 1),
                    Second = Math.Min(Math.Max(first + 1, 0), size - 1),
                    WeightFirst = (int)Math.Round((double)rest * 2048), // half to even
                    WeightSecond = (int)Math.Round((double)part * 2048)
                };
            }
            return taps;
        }

        /// <summary>A canvas as [3, H, W] from 0 to 1.</summary>
        public static float[] ToInput(Picture canvas)
        {
            int plane = canvas.Width * canvas.Height;
            var input = new float[3 * plane];
            for (int i = 0; i < plane; i++)
                for (int c = 0; c < 3; c++)
                    input[c * plane + i] = canvas.Data[i * 3 + c] / 255f;
            return input;
        }

        /// <summary>From the network's output to boxes on the picture, best first.</summary>
        /// <param name="output">[rows, anchors] with rows = 4 + classes: centre x, centre y, width, height in pixels of
        /// the canvas, then one probability per class.</param>
        public static List<Detection> Detect(float[] output, int rows, Place where, Thresholds nms)
        {
            int anchors = output.Length / rows;
            float confidence = (float)nms.Confidence;
            var candidates = new List<Candidate>();
            for (int anchor = 0; anchor < anchors; anchor++)
                for (int label = 0; label < rows - 4; label++)
                {
                    float score = output[(4 + label) * anchors + anchor];
                    if (score > confidence)
                        candidates.Add(new Candidate { Anchor = anchor, Label = label, Score = score });
                }
            var kept = new List<Candidate>();
            // OrderBy is stable: equal scores keep the order of anchors, then classes.
            foreach (var candidate in candidates.OrderByDescending(one => one.Score).Take(nms.MaxCandidates))
            {
                if (kept.Count == nms.MaxDetections) break;
                candidate.Corners = Corners(output, anchors, candidate.Anchor);
                if (candidate.Corners.Any(value => double.IsNaN(value) || double.IsInfinity(value))) continue;
                bool covered = kept.Any(
                    other => other.Label == candidate.Label && Overlap(other.Corners, candidate.Corners) > nms.Iou);
                if (!covered) kept.Add(candidate);
            }
            return kept
                .Select(one => new Detection { Label = one.Label, Score = one.Score, Box = OnPicture(one.Corners, where) })
                .Where(one => one.Box[2] > one.Box[0] && one.Box[3] > one.Box[1]) // not wholly on the grey border
                .ToList();
        }

        private static double[] Corners(float[] output, int anchors, int anchor)
        {
            var corners = new double[4];
            for (int axis = 0; axis < 2; axis++)
            {
                float centre = output[axis * anchors + anchor], half = output[(2 + axis) * anchors + anchor] / 2;
                corners[axis] = (float)(centre - half);
                corners[2 + axis] = (float)(centre + half);
            }
            return corners;
        }

        private static double Overlap(double[] a, double[] b)
        {
            double width = Math.Max(0, Math.Min(a[2], b[2]) - Math.Max(a[0], b[0]));
            double height = Math.Max(0, Math.Min(a[3], b[3]) - Math.Max(a[1], b[1]));
            double areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]);
            return width * height / (areas - width * height);
        }

        private static double[] OnPicture(double[] corners, Place where)
        {
            var box = new double[4];
            for (int i = 0; i < 4; i++)
            {
                bool across = i % 2 == 0;
                double shifted = corners[i] - (across ? where.Left : where.Top);
                double side = across ? where.Width : where.Height;
                double value = shifted * side / (across ? where.ContentWidth : where.ContentHeight);
                box[i] = Math.Min(Math.Max(value, 0), side);
            }
            return box;
        }
    }
}
